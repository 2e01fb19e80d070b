"""Calibration to a teacher: do a reward model's margins say how strongly the teacher prefers, and how surely it agrees?

Which response of a pair stands first is a convention, so every pair counts in both orders: correlations and the slope
are about zero, and turning a pair around changes nothing. The standardised slope of the one margin on the other is
Pearson's r, which therefore stands for it. `strength_spearman` leaves out who is preferred: along the teacher's order,
does the margin rise with the strength of the preference? Probabilities are Bradley-Terry's, σ(margin); the expected
calibration error is that of Guo et al. (2017), with ten equal bins. It is of use only for rewards whose unit is the
logit: of rewards regressed onto a teacher's scale it says how far that unit is from one. Bins with few pairs make it
too large, in resamples more so. Knows margins only: not whose they are, nor what the teacher's unit is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_distiller.evaluate.benchmarks.protocol import Outcome
from reward_distiller.evaluate.resampling import Estimate, Places, bootstrap, correlation, levels, ranks
from reward_distiller.evaluate.statistics import RESAMPLES

BINS = 10  # of σ(|margin|) from 0.5 to 1: the usual number; with a thousand pairs each still has dozens


@dataclass(frozen=True)
class Bin:
    """Pairs of which the reward model is about equally sure: its mean probability, and how often the teacher agrees."""

    low: float
    high: float
    pairs: int
    confidence: float
    frequency: float


@dataclass(frozen=True)
class Calibration:
    """Figures by name, and the reliability table without its empty bins. `ties`: the teacher prefers neither."""

    figures: dict[str, Estimate]
    reliability: tuple[Bin, ...]
    pairs: int
    ties: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "figures": {name: figure.as_dict() for name, figure in self.figures.items()},
            "reliability": [vars(each) for each in self.reliability],
            "pairs": self.pairs,
            "ties": self.ties,
        }


def calibrate(
    margins: Sequence[float],
    strengths: Sequence[float],
    prompts: Sequence[str],
    *,
    resamples: int = RESAMPLES,
) -> Calibration:
    """Margins of a reward model against the teacher's on the same pairs (N), with each pair's prompt.

    `spearman`, `pearson`, `slope` (units of reward per unit of the teacher's margin, least squares), `same_sign` (share
    of the pairs that the teacher does not tie; a margin of 0 agrees with nobody), `strength_spearman` and
    `calibration_error`. Raises ValueError where lengths differ, nothing is there or a margin is not finite.
    """
    r_N, t_N = np.asarray(margins, dtype=float), np.asarray(strengths, dtype=float)
    if not len(r_N) == len(t_N) == len(prompts):
        raise ValueError("margins, strengths and prompts must be as many")
    if not (np.isfinite(r_N).all() and np.isfinite(t_N).all()):
        raise ValueError("margins and strengths must be finite numbers")
    size_r, size_t, agreed_N = levels(np.abs(r_N)), levels(np.abs(t_N)), np.sign(t_N) * r_N
    along, told = levels(agreed_N), t_N != 0
    surety_N, agrees_N = _reliability(r_N, t_N)

    def figures(at: Places) -> dict[str, float]:
        r, t, kept = r_N[at], t_N[at], at[told[at]]
        return {
            "spearman": correlation(_signed_ranks(r, size_r[at]), _signed_ranks(t, size_t[at]), centered=False),
            "pearson": correlation(r, t, centered=False),
            "slope": float(r @ t) / float(t @ t) if t.any() else math.nan,
            "same_sign": float((agreed_N[kept] > 0).mean()) if len(kept) else math.nan,
            "strength_spearman": correlation(ranks(along[kept]), ranks(size_t[kept])) if len(kept) else math.nan,
            "calibration_error": _calibration_error(surety_N[at], agrees_N[at]),
        }

    found = bootstrap(figures, prompts, resamples=resamples)
    return Calibration(found, _table(surety_N, agrees_N), len(r_N), int((~told).sum()))


def of_outcomes(outcomes: Sequence[Outcome], strengths: Mapping[str, float]) -> Calibration:
    """Of a scorer's answers to examples of two responses, with the teacher's margin (first less second) by example."""
    margins = [float(outcome.margin_NN[0, 1]) for outcome in outcomes]
    examples = [outcome.example for outcome in outcomes]
    return calibrate(margins, [strengths[e.id] for e in examples], [e.prompt.id for e in examples])


def _signed_ranks(values: NDArray[np.float64], size_N: Places) -> NDArray[np.float64]:
    """The centred ranks of the values among them and their negatives: what both orders of each pair come to."""
    return np.sign(values) * (2 * ranks(size_N) - 1)


def _reliability(r_N: NDArray[np.float64], t_N: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How sure the reward model is of its own order, and whether the teacher shares it (1, 0; half where one ties)."""
    return 1 / (1 + np.exp(-np.abs(r_N))), (1 + np.sign(r_N) * np.sign(t_N)) / 2


def _bins(surety_N: NDArray[np.float64]) -> Places:
    return np.minimum(((surety_N - 0.5) * 2 * BINS).astype(np.intp), BINS - 1)


def _calibration_error(surety_N: NDArray[np.float64], agrees_N: NDArray[np.float64]) -> float:
    gaps = np.bincount(_bins(surety_N), weights=surety_N - agrees_N, minlength=BINS)
    return float(np.abs(gaps).sum() / len(surety_N))


def _table(surety_N: NDArray[np.float64], agrees_N: NDArray[np.float64]) -> tuple[Bin, ...]:
    found, edges = [], np.linspace(0.5, 1, BINS + 1)
    bins = _bins(surety_N)
    for at in range(BINS):
        there = bins == at
        if there.any():
            means = float(surety_N[there].mean()), float(agrees_N[there].mean())
            found.append(Bin(round(float(edges[at]), 3), round(float(edges[at + 1]), 3), int(there.sum()), *means))
    return tuple(found)
