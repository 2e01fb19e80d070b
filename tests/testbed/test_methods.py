"""What style bias does to a learner that sees quality only dimly: the mechanism that the testbed is there to show.

The learner is linear in two things it reads off a response: its verbosity, and its true quality blurred by noise that
stays the same for the same text. So the test takes seconds, and measures the world's pairs rather than a training run.
"""

import random
from pathlib import Path

import numpy as np

from reward_distiller.config import ChatModel
from reward_distiller.config import World as WorldSettings
from reward_distiller.construct.pipeline import Construction, ConstructionPlan, Refinement
from reward_distiller.evaluate.style_matrix import style_accuracy
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.prompts import Templates
from reward_distiller.testbed.language import USUAL
from reward_distiller.testbed.models import CANDIDATES
from reward_distiller.testbed.parts import TestbedParts

BLUR = 0.6  # standard deviation of what the learner sees of quality, which runs from 0 to 1


def seen(parts: TestbedParts, prompt: Prompt, response: str) -> np.ndarray:
    question = prompt.messages[-1].content
    blur = random.Random(f"{question}{response}").gauss(0, BLUR)
    return np.array([parts.world.excess_words(question, response) / 15, parts.world.quality(question, response) + blur])


def construct(parts: TestbedParts, folder: Path) -> list[Pair]:
    prompts = [Prompt.from_text(text) for text in parts.world.prompts(1200, 0, "train")]
    models = {m: parts.chat_model(ChatModel(model=m, base_url="testbed")) for m in ("teacher", *CANDIDATES)}
    with open_engine(folder / "ledger.sqlite", parts.transports) as engine:
        plan = ConstructionPlan(references=True, refinement=Refinement("self_calibrated", 0, 3.0))
        construction = Construction(engine, models["teacher"], Templates(), seed=0)
        return construction.unlabeled(prompts, [models[m] for m in CANDIDATES], plan)


def gap(folder: Path, **world: float) -> tuple[float, float]:
    """(RM-Distiller's average minus Bradley-Terry's, Bradley-Terry's), in points, for this learner."""
    parts = TestbedParts(WorldSettings(**world), seed=0)
    pairs = construct(parts, folder)
    difference = np.array([seen(parts, p.prompt, p.chosen) - seen(parts, p.prompt, p.rejected) for p in pairs])
    sampled = np.array([p.source == "sampled" for p in pairs])
    bradley_terry = np.zeros(2)
    for _ in range(3000):
        right = 1 / (1 + np.exp(-difference[sampled] @ bradley_terry))
        bradley_terry += 0.5 * ((1 - right) @ difference[sampled]) / sampled.sum()
    margins = np.array([p.margin for p in pairs])
    rm_distiller = np.linalg.lstsq(difference, margins, rcond=None)[0]
    items = parts.style_items(400, USUAL)

    def average(weights: np.ndarray) -> float:
        figures = style_accuracy(
            items, lambda rows: [[float(seen(parts, p, r) @ weights) for r in rs] for p, rs in rows]
        )
        return figures["average"].value

    return average(rm_distiller) - average(bradley_terry), average(bradley_terry)


def test_without_style_bias_the_gap_between_the_methods_shrinks(tmp_path):
    biased, misled = gap(tmp_path / "biased")
    level, untouched = gap(tmp_path / "level", style_bias=0.0, verbosity_bias=0.0)
    assert biased > 3
    assert abs(level) < 0.5 * biased
    assert untouched > misled + 3
