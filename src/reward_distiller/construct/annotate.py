"""Initial preference annotation: the teacher scores two responses side by side (paper, section 3.1, prompt D.1)."""

from __future__ import annotations

import random
from collections.abc import Sequence

from reward_distiller.balance import Balance
from reward_distiller.construct.scoring import Scores, Scoring, Shown
from reward_distiller.records import Pair, Prompt, Response


def annotate(drawn: Sequence[tuple[Prompt, Response, Response]], scoring: Scoring) -> tuple[list[Pair], Balance]:
    """Unlabeled scenario: the response with the higher score is the chosen one; equal scores make no pair."""
    outcomes = scoring.of_pairs("annotate", [(p.id, p, a.text, b.text) for p, a, b in drawn])
    pairs = []
    balance = Balance("annotate", "pairs", len(drawn))
    for prompt, first, second in drawn:
        outcome = outcomes[prompt.id]
        if not isinstance(outcome, Scores):
            balance.lose_to(outcome, prompt.id, scoring.teacher.model)
            continue
        if tie := tied(outcome, scoring, balance):
            balance.lose("tied", tie, prompt.id)
            continue
        scores = outcome.values
        chosen, rejected = (first, second) if scores[0] > scores[1] else (second, first)
        provenance = {
            "teacher": scoring.teacher.model,
            "score_mode": outcome.mode,
            "chosen_model": chosen.model,
            "rejected_model": rejected.model,
            "chosen_shown": 1 if chosen is first else 2,
        }
        pairs.append(
            Pair.of(
                prompt,
                chosen.text,
                rejected.text,
                "sampled",
                chosen_score=max(scores),
                rejected_score=min(scores),
                provenance=provenance,
            )
        )
        balance.keep()
    return pairs, balance.check()


def tied(scores: Scores, scoring: Scoring, balance: Balance) -> str | None:
    """Why two scores decide nothing, or None where they do. Verdicts that the order changes are counted."""
    if scores.flipped is not None:
        balance.count("asked in both orders")
    if scores.flipped:
        balance.count("of these with another verdict in the other order")
        if scoring.settings.flipped == "tie":
            return "the verdict changes with the order"
    return "equal scores" if scores.values[0] == scores.values[1] else None


def agree(labeled: Sequence[Pair], scoring: Scoring | None, seed: int) -> tuple[list[Pair], Balance]:
    """Labeled scenario (section 4.1): keep pairs whose label the teacher's scores confirm.

    Without a teacher the scores are the recorded ones. With one, the responses are shown in random order.
    """
    scores: dict[str, tuple[float, float]] = {}
    notes: dict[str, dict[str, str | int]] = {}
    balance = Balance("agree", "pairs", len(labeled))
    if scoring is not None:
        outcomes = scoring.of_pairs("annotate", label_order(labeled, seed))
        for pair in labeled:
            outcome = outcomes[pair.id]
            if not isinstance(outcome, Scores):
                balance.lose_to(outcome, pair.id, scoring.teacher.model)
            elif tie := tied(outcome, scoring, balance):
                balance.lose("tied", tie, pair.id)
            else:
                shown = 1 if _chosen_first(pair, seed) else 2
                first, second = outcome.values
                scores[pair.id] = (first, second) if shown == 1 else (second, first)
                notes[pair.id] = {"teacher": scoring.teacher.model, "score_mode": outcome.mode, "chosen_shown": shown}
    else:
        for pair in labeled:
            assert pair.chosen_score is not None
            assert pair.rejected_score is not None
            scores[pair.id] = (pair.chosen_score, pair.rejected_score)
    kept = []
    for pair in labeled:
        if pair.id not in scores:
            continue
        chosen_score, rejected_score = scores[pair.id]
        if chosen_score == rejected_score:
            balance.lose("tied", "equal scores", pair.id)
        elif chosen_score < rejected_score:
            balance.lose("disagreed", "the teacher prefers the rejected response", pair.id)
        else:
            who = notes.get(pair.id, {"teacher": "recorded"})
            update = {"chosen_score": chosen_score, "rejected_score": rejected_score}
            kept.append(pair.model_copy(update=update | {"provenance": {**pair.provenance, **who}}))
            balance.keep()
    return kept, balance.check()


def label_order(labeled: Sequence[Pair], seed: int) -> list[Shown]:
    """The pairs as they are shown, each in an order that the seed decides."""
    return [
        (p.id, p.prompt, *((p.chosen, p.rejected) if _chosen_first(p, seed) else (p.rejected, p.chosen)))
        for p in labeled
    ]


def _chosen_first(pair: Pair, seed: int) -> bool:
    return random.Random(f"order:{seed}:{pair.id}").random() < 0.5
