"""Figures with their uncertainty: over units of one run by the bootstrap, over repetitions by Student's t.

Knows numbers only. What is resampled or repeated (prompts, seeds) is the caller's to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # scipy.stats has the same t distribution, and takes a second to load

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


def percent(values: Sequence[float] | NDArray[np.float64], weights: Sequence[float] | None = None) -> Figure:
    """100 times the weighted mean of one value a unit (a prompt, say), resampled over units."""
    return mean_figure(100 * np.asarray(values, dtype=float), weights)


def mean_figure(values: Sequence[float] | NDArray[np.float64], weights: Sequence[float] | None = None) -> Figure:
    """The weighted mean of one value a unit, with its bootstrap interval over units."""
    if not len(values):
        raise ValueError("no values to take a mean of")
    value = np.asarray(values, dtype=float)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, dtype=float)
    draws = np.random.default_rng(0).integers(0, len(value), size=(RESAMPLES, len(value)))
    means = (value * weight)[draws].sum(1) / weight[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean = (value * weight).sum() / weight.sum()
    mean, low, high = (round(float(x), 3) for x in (mean, low, high))
    return Figure(mean, low, high, len(value))


@dataclass(frozen=True)
class Interval:
    """A mean over `n` repetitions (seeds, say) with a 95% interval; `p` where it was tested against zero."""

    mean: float
    low: float
    high: float
    n: int
    p: float | None = None


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of two or more independent values with the 95% interval of Student's t on n - 1 degrees of freedom."""
    value = np.asarray(values, dtype=float)
    n = len(value)
    if n < 2:
        raise ValueError("an interval over repetitions needs two of them")
    mean = float(value.mean())
    reach = float(stdtrit(n - 1, 0.975)) * float(value.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach, n)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over repetitions that both share, with its 95% interval and the p of the two-sided paired t-test.

    Where all differences are equal, t is 0/0 or without bound: p is 1 if they are all 0, and None otherwise, as nothing
    is known of their spread.
    """
    if len(a) != len(b):
        raise ValueError("paired values must be as many on both sides")
    difference = np.round(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), 9)  # 0.3 - 0.1 is 0.4 - 0.2
    if len(difference) > 1 and np.ptp(difference) == 0:
        mean = float(difference[0])
        return Interval(mean, mean, mean, len(difference), 1.0 if mean == 0 else None)
    found = mean_interval(difference)
    t = found.mean / (float(difference.std(ddof=1)) / math.sqrt(found.n))
    return replace(found, p=2 * float(stdtr(found.n - 1, -abs(t))))


def bootstrap_difference(a: Sequence[float], b: Sequence[float], weights: Sequence[float] | None = None) -> Figure:
    """100 times the weighted mean of a - b, the values of two scorers on the same units, resampled over units."""
    return percent(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), weights)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for being several, by Holm's step-down method (1979), in the order given."""
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected
