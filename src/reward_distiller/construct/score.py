"""Scores for refined pairs: Self-Calibrated Scoring (section 3.3, prompt D.3), and the pairwise ablation (B.1)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from reward_distiller.balance import Balance
from reward_distiller.construct.annotate import tied
from reward_distiller.construct.refine import Refined
from reward_distiller.construct.scoring import Scores, Scoring
from reward_distiller.records import Pair


def score_self_calibrated(refined: Sequence[Refined], scoring: Scoring) -> tuple[list[Pair], Balance]:
    """The refinement dialogue as context, s_T(x, y_l) as the anchor; the teacher scores y_w* alone."""
    dialogues = []
    for item in refined:
        text, _ = scoring.templates.render("calibrated_score", item.pair.prompt, anchor=f"{item.pair.rejected_score:g}")
        dialogues.append((item.pair.id, [*item.dialogue, {"role": "user", "content": text}]))
    outcomes = scoring.of_dialogues("score", dialogues)
    scored = _Scored(refined, scoring)
    for item in refined:
        outcome = outcomes[item.pair.id]
        if isinstance(outcome, Scores):
            anchor = item.pair.rejected_score
            assert anchor is not None
            modes = (outcome.mode, item.pair.provenance.get("score_mode", "recorded"))
            scored.add(item, (outcome.values[0], anchor), modes)
        else:
            scored.balance.lose_to(outcome, item.pair.id, scoring.teacher.model)
    return scored.end()


def score_pairwise(refined: Sequence[Refined], scoring: Scoring, seed: int) -> tuple[list[Pair], Balance]:
    """(y_w*, y_l) through prompt D.1 in random order, without history or anchor."""
    refined_first = {r.pair.id: random.Random(f"order:{seed}:{r.pair.id}").random() < 0.5 for r in refined}
    shown = []
    for item in refined:
        responses = (item.response, item.pair.rejected)
        shown.append((item.pair.id, item.pair.prompt, *(responses if refined_first[item.pair.id] else responses[::-1])))
    outcomes = scoring.of_pairs("score", shown)
    scored = _Scored(refined, scoring)
    for item in refined:
        outcome = outcomes[item.pair.id]
        if not isinstance(outcome, Scores):
            scored.balance.lose_to(outcome, item.pair.id, scoring.teacher.model)
        elif tie := tied(outcome, scoring, scored.balance):
            scored.balance.lose("tied", tie, item.pair.id)
        else:
            first, second = outcome.values
            values = (first, second) if refined_first[item.pair.id] else (second, first)
            scored.add(item, values, (outcome.mode, outcome.mode))
    return scored.end()


class _Scored:
    """The pairs so far, and what became of the rest. Scores and their modes: the refined response's, the rejected's."""

    def __init__(self, refined: Sequence[Refined], scoring: Scoring):
        self.pairs: dict[str, Pair] = {}
        self.balance = Balance("score", "refined pairs", len(refined))
        self.teacher = scoring.teacher.model

    def add(self, item: Refined, scores: tuple[float, float], modes: tuple[str, str]) -> None:
        pair = Pair.of(
            item.pair.prompt,
            item.response,
            item.pair.rejected,
            "refined",
            chosen_score=scores[0],
            rejected_score=scores[1],
            teacher_response=item.pair.teacher_response,
            provenance={
                "teacher": self.teacher,
                "score_mode": modes[0],
                "rejected_score_mode": modes[1],
                "refined_from": item.pair.id,
                "diagnosis": item.diagnosis,
            },
        )
        if pair.id in self.pairs:  # two pairs of a prompt can share their rejected response
            self.balance.lose("dropped", "duplicate refined pair", item.pair.id)
            return
        self.pairs[pair.id] = pair
        self.balance.keep()

    def end(self) -> tuple[list[Pair], Balance]:
        return list(self.pairs.values()), self.balance.check()
