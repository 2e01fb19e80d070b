"""The figures of benchmarks whose examples are pairs: accuracy over all of them, and by one of their labels.

A pair is won where the right response is strictly above the wrong one; an equal margin is a loss. A pair of which the
benchmark calls both responses equally good is left out, and counted in a note.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.benchmarks.protocol import Outcome, Scores
from reward_distiller.evaluate.metrics import grouped, mean


def accuracy_of(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """1 or 0 by example id, without the pairs that are tied."""
    return {o.example.id: float(o.wins[0, 0]) for o in outcomes if not o.example.tied}


def by_label(outcomes: Sequence[Outcome], label: str) -> Scores:
    """`overall`, over all pairs alike however many each label has, and one figure for each value of the label.

    There is none where all pairs are tied.
    """
    won = accuracy_of(outcomes)
    tied = sum(o.example.tied for o in outcomes)
    notes = [f"{tied} of {len(outcomes)} pairs are tied and left out"] if tied else []
    if not won:
        return Scores({}, notes)
    return Scores(
        {"overall": mean(won), **grouped(won, {o.example.id: o.example.labels[label] for o in outcomes})}, notes
    )
