"""Scores for refined pairs: Self-Calibrated Scoring (section 3.3, prompt D.3), and the pairwise ablation (B.1)."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.config import ChatModel
from reward_distiller.construct.annotate import scoring_question
from reward_distiller.construct.refine import Refined
from reward_distiller.records import Pair
from reward_distiller.teacher.engine import Answer, Engine, Question
from reward_distiller.teacher.parsing import parse_score
from reward_distiller.teacher.prompts import Templates

T = TypeVar("T")


def score_self_calibrated(
    refined: Sequence[Refined], teacher: ChatModel, templates: Templates, engine: Engine
) -> tuple[list[Pair], Balance]:
    """The refinement dialogue as context, s_T(x, y_l) as the anchor; the teacher scores y_w* alone."""
    outcomes = engine.ask(teacher, "score", [_calibration_question(r, templates) for r in refined])

    def scores(item: Refined, value: float) -> tuple[float, float]:
        assert item.pair.rejected_score is not None
        return value, item.pair.rejected_score

    return _scored(refined, outcomes, scores, teacher)


def score_pairwise(
    refined: Sequence[Refined], teacher: ChatModel, templates: Templates, engine: Engine, seed: int
) -> tuple[list[Pair], Balance]:
    """(y_w*, y_l) through prompt D.1 in random order, without history or anchor."""
    refined_first = {r.pair.id: random.Random(f"order:{seed}:{r.pair.id}").random() < 0.5 for r in refined}
    questions = []
    for item in refined:
        shown = (item.response, item.pair.rejected)
        shown = shown if refined_first[item.pair.id] else shown[::-1]
        questions.append(scoring_question(item.pair.id, item.pair.prompt, *shown, templates))
    outcomes = engine.ask(teacher, "score", questions)

    def scores(item: Refined, value: tuple[float, float]) -> tuple[float, float]:
        return value if refined_first[item.pair.id] else value[::-1]

    return _scored(refined, outcomes, scores, teacher)


def _scored(
    refined: Sequence[Refined],
    outcomes: Mapping[str, Answer[T] | Quarantined | Failed],
    scores: Callable[[Refined, T], tuple[float, float]],
    teacher: ChatModel,
) -> tuple[list[Pair], Balance]:
    pairs: dict[str, Pair] = {}
    balance = Balance("score", "refined pairs", len(refined))
    for item in refined:
        outcome = outcomes[item.pair.id]
        if not isinstance(outcome, Answer):
            balance.lose_to(outcome, item.pair.id, teacher.model)
            continue
        pair = _refined_pair(item, *scores(item, outcome.value), teacher)
        if pair.id in pairs:  # two pairs of a prompt can share their rejected response
            balance.lose("dropped", "duplicate refined pair", item.pair.id)
            continue
        pairs[pair.id] = pair
        balance.keep()
    return list(pairs.values()), balance.check()


def _calibration_question(item: Refined, templates: Templates) -> Question[float]:
    text, _ = templates.render("calibrated_score", item.pair.prompt, anchor=f"{item.pair.rejected_score:g}")
    return Question(item.pair.id, [*item.dialogue, {"role": "user", "content": text}], parse_score)


def _refined_pair(item: Refined, chosen_score: float, rejected_score: float, teacher: ChatModel) -> Pair:
    return Pair.of(
        item.pair.prompt,
        item.response,
        item.pair.rejected,
        "refined",
        chosen_score=chosen_score,
        rejected_score=rejected_score,
        teacher_response=item.pair.teacher_response,
        provenance={"teacher": teacher.model, "refined_from": item.pair.id, "diagnosis": item.diagnosis},
    )
