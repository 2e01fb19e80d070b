"""Pairs with a real teacher's strength of preference: what a reward model's margins are calibrated against.

Each example has two responses, the one that the teacher prefers first, and a margin of the teacher's that is never
negative; at 0 the example is a tie. AlpacaEval's margin is 2p - 1, the expected preference of a judge who prefers the
response with probability p: its logit, read from one token, grows without bound where the judge is sure and would be
all that a slope sees. UltraFeedback's is the difference of two overall scores, Prometheus' that of two means
of three scores. Knows no scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from reward_distiller.balance import Balance
from reward_distiller.evaluate.benchmarks import prometheus
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores, Unused
from reward_distiller.evaluate.benchmarks.reading import load as load_benchmark
from reward_distiller.evaluate.metrics import mean
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields

LEFT_OUT = {"NullModel": "an adversarial constant response, not an answer"}


@dataclass(frozen=True)
class Preference:
    """An example with the teacher's margin, in the set's own unit."""

    example: Example
    margin: float


@dataclass(frozen=True)
class StrengthSet:
    """As a `Benchmark` says of itself; its rows make preferences. `unit` is that of the margins."""

    name: str
    about: str
    unit: str
    files: tuple[str, ...]
    expects: str
    read: Callable[[Sequence[Fields]], Sequence[Preference | Unused]]


def load(strengths: StrengthSet, path: str) -> tuple[list[Example], dict[str, float], Balance]:
    """Its examples, the teacher's margin by example id, and what became of all rows.

    Raises BenchmarkError as `reading.load` does.
    """
    margins: dict[str, float] = {}

    def read(rows: Sequence[Fields]) -> list[Example | Unused]:
        made = strengths.read(rows)
        margins.update({item.example.id: item.margin for item in made if isinstance(item, Preference)})
        return [item.example if isinstance(item, Preference) else item for item in made]

    as_benchmark = Benchmark(strengths.name, strengths.about, strengths.files, strengths.expects, read, _accuracy)
    examples, balance = load_benchmark(as_benchmark, path)
    return examples, margins, balance


def _accuracy(outcomes: Sequence[Outcome]) -> Scores:
    return Scores({"accuracy": mean({o.example.id: float(np.mean(o.wins)) for o in outcomes if not o.example.tied})})


def _preference(name: str, prompt: Prompt, texts: tuple[str, str], margin: float, **labels: str) -> Preference | Unused:
    """`margin` is the first text's lead; negative, it puts the second first."""
    first, second = texts if margin >= 0 else texts[::-1]
    if not first.strip() or not second.strip():
        return Unused(name, "empty response")
    if first == second:
        return Unused(name, "equal responses")
    right = 2 if margin == 0 else 1
    return Preference(Example(name, prompt, (first, second), right, labels), abs(margin))


def _alpaca_eval(rows: Sequence[Fields]) -> list[Preference | Unused]:
    """Each model's answer with the reference's. A reference's own row is used where some answer was put beside it."""
    references: dict[int, Fields] = {}
    for fields in rows:
        if fields.get("generator") is None:
            if _idx(fields) in references:
                raise fields.wrong("idx", f"{_idx(fields)} stands there twice", "Remove one of the references")
            references[_idx(fields)] = fields
    made: list[Preference | Unused] = []
    judged: set[int] = set()
    for fields in rows:
        model = fields.text("generator")
        if model is None:
            continue
        name, idx = f"{model}:{_idx(fields)}", _idx(fields)
        preference = _number(fields, "preference")
        if not 1 <= preference <= 2:
            raise fields.wrong("preference", f"{preference} is not a preference", "Write a number from 1 to 2")
        if idx not in references:
            raise fields.wrong("idx", f"{idx} has no reference", "Put the file of references beside the annotations")
        if model in LEFT_OUT:
            made.append(Unused(name, LEFT_OUT[model]))
            continue
        instruction = references[idx].text("instruction")
        if instruction is None:
            raise references[idx].wrong("instruction", "missing", "Add it, or take the published file")
        texts = (fields.response("output"), references[idx].response("output"))
        made.append(_preference(name, Prompt.from_text(instruction), texts, 2 * preference - 3, model=model))
        judged.add(idx)
    made += [Unused(f"reference:{idx}", "no answer was put beside it") for idx in references if idx not in judged]
    return made


def _ultrafeedback(rows: Sequence[Fields]) -> list[Preference | Unused]:
    made = []
    for fields in rows:
        name = f"{PurePath(fields.where).name.split('.')[0]}:{fields.require('source_index')}"
        texts = (fields.response("chosen"), fields.response("rejected"))
        scores = [_number(fields, f"metadata.score_{side}") for side in ("chosen", "rejected")]
        made.append(_preference(name, fields.prompt(), texts, scores[0] - scores[1]))
    return made


def _prometheus(rows: Sequence[Fields]) -> list[Preference | Unused]:
    """Pairs as the benchmark makes them, whose ids name the better row and the worse; equal scores make none there."""
    score_of = {}
    for fields in rows:
        part = PurePath(fields.where).name.split(".")[0]
        samples = fields.require("gpt4_score")
        if not isinstance(samples, list) or not all(type(sample) in (int, float) for sample in samples):
            raise fields.wrong("gpt4_score", f"{samples!r:.60} is no list of scores", "Write [4, 5, 4]")
        score_of[f"{part}:{fields.get('idx')}:{fields.get('response_source')}"] = float(np.mean(samples))
    made: list[Preference | Unused] = []
    for item in prometheus.read(rows):
        if isinstance(item, Unused):
            made.append(item)
        else:
            better, worse = item.id.split(">")
            made.append(Preference(item, score_of[better] - score_of[worse]))
    return made


def _number(fields: Fields, name: str) -> float:
    fields.require(name)
    return fields.score(name) or 0.0


def _idx(fields: Fields) -> int:
    idx = fields.require("idx")
    if isinstance(idx, bool) or not isinstance(idx, int):
        raise fields.wrong("idx", f"{idx!r:.40} is not a whole number", "Write 0, 1, ...")
    return idx


ALPACA_EVAL = StrengthSet(
    name="alpaca_eval",
    about="answers of many models beside GPT-4's own, with GPT-4 Turbo's probability of preferring each",
    unit="expected preference, -1 to 1",
    files=("reference_gpt4_1106_preview.jsonl*", "annotations/*.jsonl*"),
    expects="idx, instruction and output (references), and idx, generator, output and preference (annotations)",
    read=_alpaca_eval,
)
ULTRAFEEDBACK = StrengthSet(
    name="ultrafeedback",
    about="pairs with GPT-4's overall score of both responses",
    unit="points of 1 to 10",
    files=("train_1000.jsonl*", "eval_200.jsonl*"),
    expects="prompt, chosen, rejected, source_index and metadata with score_chosen and score_rejected",
    read=_ultrafeedback,
)
PROMETHEUS = StrengthSet(
    name="prometheus",
    about="responses to one instruction, each with the mean of three of GPT-4's scores by a rubric",
    unit="points of 1 to 5",
    files=("vicuna_eval.json*", "mt_bench_eval.json*"),
    expects="idx, response_source, instruction and gpt4_score",
    read=_prometheus,
)
STRENGTH_SETS = {each.name: each for each in (ALPACA_EVAL, ULTRAFEEDBACK, PROMETHEUS)}
