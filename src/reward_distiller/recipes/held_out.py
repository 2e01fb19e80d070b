"""A reward model on the pairs of prompts that it was never trained on, beside scorers that read nothing.

Besides the accuracies: how far it is ahead of the trivial scorers on the same pairs, how its margins stand to the
teacher's, and what of a response's style moves its reward. Knows neither how the
pairs were made nor how the model was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from reward_distiller.console import track
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.bias_audit import style_correlations
from reward_distiller.evaluate.calibration import calibrate
from reward_distiller.evaluate.pair_accuracy import (
    PairScorer,
    accuracy,
    accuracy_difference,
    by_rewards,
    longer,
    source_model,
)
from reward_distiller.evaluate.style_matrix import StyleItem, style_accuracy
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.records import Pair, Prompt, content_id


def held_out_figures(model: RewardModel, training: list[Pair], held_out: list[Pair]) -> dict[str, Any]:
    """Groups of figures for results.json: `held_out`, `ahead`, `calibration`, `bias_audit`, each where it is defined.

    `ahead` is the paired difference of the model's accuracy to a trivial scorer's, in points.
    """
    reads_teacher = model.need is not None and model.need.source == "teacher"
    given = {p.id: (p.chosen_critique or "", p.rejected_critique or "") if reads_teacher else None for p in held_out}

    def fitting(pairs: list[Pair]) -> list[Pair]:
        return [p for p in pairs if model.fits(p.prompt.as_dicts(), (p.chosen, p.rejected), given[p.id])]

    short = fitting(held_out)
    rows = [(p.prompt.as_dicts(), (p.chosen, p.rejected)) for p in short]
    critiques = model.critiques(rows, [given[p.id] for p in short] if model.need else None)
    if critiques is not None:  # its own make some too long that had room alone
        given.update({p.id: (w, l) for p, (w, l) in zip(short, critiques, strict=True)})
        short = fitting(short)
        critiques = [list(given[p.id] or ()) for p in short]
    figures: dict[str, Any] = {"too_long": len(held_out) - len(short), "pairs": content_id(sorted(p.id for p in short))}
    if not short:
        return {"held_out": figures}
    scorer = by_rewards(short, partial(rewards_of, model, critiques=critiques))
    rewards = {p.id: scorer(p) for p in short}
    trivial: dict[str, PairScorer] = {"longer_response": longer}
    if (by_model := source_model(training)) is not None:
        trivial["source_model"] = by_model
    figures |= {n: accuracy(short, s).as_dict() for n, s in {"accuracy": scorer, **trivial}.items()}
    found: dict[str, Any] = {"held_out": figures}
    found["ahead"] = {"held_out": {n: accuracy_difference(short, scorer, s).as_dict() for n, s in trivial.items()}}
    if scored := [p for p in short if p.margin is not None]:
        margins = [rewards[p.id][0] - rewards[p.id][1] for p in scored]
        calibrated = calibrate(margins, [p.margin or 0.0 for p in scored], [p.prompt.id for p in scored])
        found["calibration"] = {"held_out": {"unit": "points of the teacher's scale", **calibrated.as_dict()}}
    examples = [Example(p.id, p.prompt, (p.chosen, p.rejected)) for p in short]
    found["bias_audit"] = {"held_out": _style(examples, [rewards[p.id] for p in short])}
    return found


def figures_on_testbed(model: RewardModel, items: Sequence[StyleItem]) -> dict[str, Any]:
    """Accuracies by style, and the bias audit with the truth held fixed: groups `testbed` and `bias_audit`."""
    kept: list[list[float]] = []

    def scored(rows: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        kept.extend(rewards_of(model, rows))
        return kept

    figures = {name: figure.as_dict() for name, figure in style_accuracy(items, scored).items()}
    examples = [
        Example(str(at), item.prompt, (*item.chosen, *item.rejected), right=len(item.chosen))
        for at, item in enumerate(items)
    ]
    return {"testbed": figures, "bias_audit": {"testbed": _style(examples, kept)}}


def _style(examples: Sequence[Example], rewards: Sequence[Sequence[float]]) -> dict[str, Any]:
    style = style_correlations(examples, rewards)
    return {"style": {name: {**one.partial.as_dict(), "differing": one.differing} for name, one in style.items()}}


def rewards_of(
    model: RewardModel,
    rows: Sequence[tuple[Prompt, Sequence[str]]],
    critiques: Sequence[Sequence[str]] | None = None,
) -> list[list[float]]:
    asked = [(prompt.as_dicts(), responses) for prompt, responses in rows]
    known = model.critiques(asked) if critiques is None else critiques
    with track("score", sum(len(responses) for _, responses in rows)) as advance:
        return model.score_rows(asked, advance, known)
