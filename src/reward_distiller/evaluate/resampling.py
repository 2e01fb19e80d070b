"""Figures that are no means (correlations, slopes, agreement) with their 95% intervals over prompts.

The bootstrap resamples whole prompts with all their examples (cluster bootstrap: Davison & Hinkley, 1997, section 3.8),
since examples of one prompt are not independent. Rank correlation is here because it must be quick to resample.
Knows places in arrays only, and not what a figure says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reward_distiller.evaluate.statistics import RESAMPLES

ROUNDING = 1e-20  # of a sum of squares: what is left of equal values when their mean is taken away
Places = NDArray[np.intp]  # which examples are drawn, each as often as it is


@dataclass(frozen=True)
class Estimate:
    """A figure in its own unit with a 95% bootstrap interval over `n` prompts; NaN where it is not defined."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN: None stands for it."""
        found = {"value": self.value, "low": self.low, "high": self.high}
        return {**{name: None if math.isnan(v) else v for name, v in found.items()}, "n": self.n}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    statistic: Callable[[Places], Mapping[str, float]],
    prompts: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Each figure that `statistic` makes of drawn examples; `prompts` names the prompt of each example, in order.

    A figure that is not defined for some resamples (NaN) has the interval of the others, and none where it is not
    defined for all examples themselves. Raises ValueError where there are no examples.
    """
    if not len(prompts):
        raise ValueError("no examples to resample")
    names, prompt_N = np.unique(np.asarray(prompts, dtype=str), return_inverse=True)
    values = statistic(np.arange(len(prompt_N)))
    rng, drawn = np.random.default_rng(seed), np.full((resamples, len(values)), np.nan)
    for at in range(resamples):
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        drawn[at] = list(statistic(np.repeat(np.arange(len(prompt_N)), times[prompt_N])).values())
    return {name: _estimate(value, drawn[:, column], len(names)) for column, (name, value) in enumerate(values.items())}


def _estimate(value: float, drawn: NDArray[np.float64], n: int) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(defined):
        return Estimate(float(value), math.nan, math.nan, n)
    low, high = np.quantile(defined, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)


def levels(values: Sequence[float] | NDArray[np.float64]) -> Places:
    """Each value's place among the distinct values, from 0: found once, it spares every resample a sort."""
    return np.unique(np.asarray(values, dtype=float), return_inverse=True)[1]


def ranks(level_N: Places) -> NDArray[np.float64]:
    """Ranks from 1 of values given by their levels; equal values share the mean of their ranks."""
    counts = np.bincount(level_N)
    return (np.cumsum(counts) - (counts - 1) / 2)[level_N]


def correlation(x: NDArray[np.float64], y: NDArray[np.float64], *, centered: bool = True) -> float:
    """Pearson's r, about the means or (not `centered`) about zero. NaN where one side does not vary."""
    if not len(x):
        return math.nan
    raw = float(x @ x), float(y @ y)
    if centered:
        x, y = x - x.mean(), y - y.mean()
    left, right = float(x @ x), float(y @ y)
    if left <= ROUNDING * raw[0] or right <= ROUNDING * raw[1]:
        return math.nan
    return float(x @ y) / math.sqrt(left) / math.sqrt(right)
