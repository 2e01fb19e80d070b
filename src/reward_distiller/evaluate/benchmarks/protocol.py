"""What a benchmark says of itself: where its rows lie, what they ask, and which figures it makes of the answers.

An example is a prompt with responses, the right ones first. A scorer answers it with margins between responses, whether
it gives each a reward or compares them two by two, so a metric reads margins alone. Knows no scorer and no statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reward_distiller.evaluate.metrics import Metric
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields


@dataclass(frozen=True)
class Example:
    """A prompt and its responses, of which the first `right` are right and the others wrong.

    Where none is wrong the example is a tie, and a scorer is right about it that prefers none. `id` is unique in the
    benchmark; `labels` are what its figures are broken down by.
    """

    id: str
    prompt: Prompt
    responses: tuple[str, ...]
    right: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        return self.right == len(self.responses)

    @property
    def comparisons(self) -> list[tuple[int, int]]:
        """The pairs of responses that are told apart: each right one with each wrong one; all with all in a tie."""
        count = len(self.responses)
        if self.tied:
            return [(i, j) for i in range(count) for j in range(i + 1, count)]
        return [(i, j) for i in range(self.right) for j in range(self.right, count)]


@dataclass(frozen=True)
class Unused:
    """A row that makes no example, and why."""

    row: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """An example with a scorer's answer: margin_NN[i, j] > 0 prefers response i to j; NaN where it was not asked."""

    example: Example
    margin_NN: NDArray[np.float64]

    @property
    def wins(self) -> NDArray[np.float64]:
        """(right, wrong): 1 where the right response is strictly above the wrong one. An equal margin is a loss."""
        right = self.example.right
        return (self.margin_NN[:right, right:] > 0).astype(float)


@dataclass(frozen=True)
class Scores:
    """A benchmark's figures by name, and what a reader must know of them (parts that are missing, say)."""

    metrics: dict[str, Metric]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Hub:
    """A data set on the Hub, in all of the `splits`."""

    id: str
    splits: tuple[str, ...]
    subset: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """`files` are the names of its files in a folder, as glob patterns. `expects` tells who brings another file."""

    name: str
    about: str
    files: tuple[str, ...]
    expects: str
    read: Callable[[Sequence[Fields]], Sequence[Example | Unused]]
    metrics: Callable[[Sequence[Outcome]], Scores]
    hub: Hub | None = None
