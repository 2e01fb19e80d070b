"""What a scorer says of an example: a reward for each response, or margins of responses compared two by two.

Both become an `Outcome`, whose margins the benchmarks read. Knows no scorer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reward_distiller.evaluate.benchmarks.protocol import Example, Outcome


@dataclass(frozen=True)
class Rewards:
    """One reward a response, in their order."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparisons:
    """(i, j, margin): response i was shown first, j second, and i is that much better (a lead of 1 in a ranking)."""

    margins: tuple[tuple[int, int, float], ...]


@dataclass(frozen=True)
class NoAnswer:
    """The scorer has nothing to say of this example: it is too long for it, or its answers were unusable."""

    reason: str


Answer = Rewards | Comparisons | NoAnswer


class Scorer(Protocol):
    """`identity` is all that its answers come from (no secrets): answers are kept under its hash."""

    @property
    def identity(self) -> dict[str, Any]: ...

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        """One answer an example, in order. `advance` is called once for each response or comparison done."""
        ...


def outcome(example: Example, answer: Rewards | Comparisons) -> Outcome:
    """Margins of rewards are their differences; a comparison in both orders counts with the mean of the two."""
    if isinstance(answer, Rewards):
        reward_N = np.array(answer.values, dtype=float)
        return Outcome(example, reward_N[:, None] - reward_N[None, :])
    count = len(example.responses)
    sums, times = np.zeros((count, count)), np.zeros((count, count))
    for i, j, margin in answer.margins:
        sums[i, j] += margin
        sums[j, i] -= margin
        times[i, j] += 1
        times[j, i] += 1
    with np.errstate(invalid="ignore"):
        return Outcome(example, sums / times)


def as_json(answer: Answer) -> dict[str, Any]:
    if isinstance(answer, Rewards):
        return {"rewards": list(answer.values)}
    if isinstance(answer, Comparisons):
        return {"comparisons": [list(c) for c in answer.margins]}
    return {"no_answer": answer.reason}


def from_json(row: dict[str, Any]) -> Answer:
    """Raises KeyError, TypeError or ValueError for what `as_json` does not write."""
    if "rewards" in row:
        return Rewards(tuple(float(value) for value in row["rewards"]))
    if "comparisons" in row:
        return Comparisons(tuple((int(i), int(j), float(margin)) for i, j, margin in row["comparisons"]))
    return NoAnswer(str(row["no_answer"]))
