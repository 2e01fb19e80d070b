"""Figures with their uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000  # the bounds of a 95% interval then move by about a tenth of its width from seed to seed


@dataclass(frozen=True)
class Figure:
    """A mean in percent with a 95% bootstrap interval over `n` independent units."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def percent(values: Sequence[float], weights: Sequence[float] | None = None) -> Figure:
    """100 times the weighted mean of one value a unit (a prompt, say), resampled over units."""
    if not len(values):
        raise ValueError("no values to take a mean of")
    value = np.asarray(values, dtype=float)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=float)
    draws = np.random.default_rng(0).integers(0, len(value), size=(RESAMPLES, len(value)))
    means = (value * weight)[draws].sum(1) / weight[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = (value * weight).sum() / weight.sum()
    mean, low, high = (round(100 * float(x), 3) for x in (mean, low, high))
    return Figure(mean, low, high, len(value))
