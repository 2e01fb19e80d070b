"""How often one policy's response is preferred to another's, prompt by prompt, by a judge who saw them in both orders.

A prompt is worth the mean of its verdicts: 1 for ours, 0 for the other's, one half for a tie. So a judge who prefers
whatever stands first gives one half. Knows no judge and no policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reward_distiller.evaluate.policy.protocol import PolicyFigures
from reward_distiller.evaluate.statistics import Figure, percent
from reward_distiller.evaluate.verdicts import Verdict

WORTH: dict[Verdict, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class Compared:
    """A prompt's verdicts, both in terms of ours as "first": ours shown first, and shown second. None: none was read.

    One at least is there. `identical` responses were not shown to anybody; they tie.
    """

    ours_first: Verdict | None
    ours_second: Verdict | None
    identical: bool = False

    @property
    def worth(self) -> float:
        given = [WORTH[verdict] for verdict in (self.ours_first, self.ours_second) if verdict is not None]
        return sum(given) / len(given)

    @property
    def in_both(self) -> bool:
        return not self.identical and self.ours_first is not None and self.ours_second is not None


def figures(compared: Sequence[Compared]) -> PolicyFigures:
    """Percent, with intervals over prompts.

    `win_rate` counts ties half; `wins`, `ties` and `losses` are prompts worth more than one half, one half, and less.
    `consistency` is the share of the prompts judged in both orders on which both verdicts are the same; `first_shown`
    is the share of verdicts, ties less, for the response that was shown first. Raises ValueError for no prompts.
    """
    worths = [each.worth for each in compared]
    found: dict[str, Figure] = {
        "win_rate": percent(worths),
        "wins": percent([float(worth > 0.5) for worth in worths]),
        "ties": percent([float(worth == 0.5) for worth in worths]),
        "losses": percent([float(worth < 0.5) for worth in worths]),
    }
    both = [each for each in compared if each.in_both]
    if both:
        found["consistency"] = percent([float(each.ours_first == each.ours_second) for each in both])
    if leanings := [lean for each in both if (lean := _leaning(each)) is not None]:
        found["first_shown"] = percent([share for share, _ in leanings], [count for _, count in leanings])
    notes = []
    if same := sum(each.identical for each in compared):
        notes.append(f"{same:,} prompts have one and the same response from both; they tie, and nobody was asked")
    if one := sum(not each.in_both and not each.identical for each in compared):
        notes.append(f"{one:,} prompts have a readable verdict in one order only, which stands alone")
    return PolicyFigures(found, notes)


def _leaning(each: Compared) -> tuple[float, int] | None:
    """The share of the verdicts that are no ties which go to the response shown first, and how many they are."""
    shown_first = [
        verdict == place
        for verdict, place in ((each.ours_first, "first"), (each.ours_second, "second"))
        if verdict != "tie"
    ]
    return (sum(shown_first) / len(shown_first), len(shown_first)) if shown_first else None
