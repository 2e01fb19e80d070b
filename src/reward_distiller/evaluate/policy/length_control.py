"""The length-controlled win rate: what a policy's win rate would be if its responses were as long as the reference's.

A logistic regression (Dubois et al., 2024, "Length-Controlled AlpacaEval", section 3) explains preferences, 0 to 1, by

    P(preferred) = logistic(w_len · tanh(Δ / sd Δ) + w_diff · difficulty + w_model), Δ = len(reference) - len(response)

in characters; the length term is then left out of the prediction. As AlpacaEval 2 does it: an L1 penalty whose strength
five-fold cross-validation chooses, and rows of the reference itself told to be verbose and to be concise ("gamed"),
of weight 0.2 in all and without w_model, which hold w_len and w_diff near what length and difficulty do between equals.

Those rows (upstream's df_gamed.csv) are not among the repository's files. The coefficients fitted on them are, so they
stand here as what these coefficients predict, at the policy's own lengths. Knows numbers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
GAMED_WEIGHT = 0.2  # of all gamed rows together, relative to the policy's own
FOLDS = 5
STRENGTHS = np.logspace(-4, 4, 10)  # C: how much the likelihood counts against the penalty
STEPS, TOLERANCE = 100, 1e-7


@dataclass(frozen=True)
class Weights:
    """The regression's coefficients."""

    length: float
    difficulty: float
    model: float

    def win_rate(self, difficulty_N: Floats) -> float:
        """The mean predicted preference at equal lengths, from 0 to 1."""
        return float(expit(self.difficulty * difficulty_N + self.model).mean())


def scaled_lengths(difference_N: Floats) -> Floats:
    """tanh of length differences over their standard deviation; 0 where they do not differ among themselves."""
    deviation = float(difference_N.std(ddof=1)) if len(difference_N) > 1 else 0.0
    return np.tanh(difference_N / deviation) if deviation else np.zeros(len(difference_N))


@dataclass(frozen=True)
class Rows:
    """What is regressed: features (length, difficulty, model), targets in [0, 1], and how much each row counts."""

    x_N3: Floats
    y_N: Floats
    weight_N: Floats

    def __getitem__(self, at: NDArray[np.bool_]) -> Rows:
        return Rows(self.x_N3[at], self.y_N[at], self.weight_N[at])


def rows_of(difference_N: Floats, difficulty_N: Floats, preference_N: Floats, gamed: Sequence[Weights]) -> Rows:
    """A policy's rows, and those that stand for the `gamed` references."""
    own = np.stack([scaled_lengths(difference_N), difficulty_N, np.ones(len(difference_N))], axis=1)
    x, y, weight = [own], [preference_N], [np.ones(len(own))]
    for each in gamed:
        even = own * [1.0, 1.0, 0.0]
        x.append(even)
        y.append(expit(even @ [each.length, each.difficulty, 0.0]))
        weight.append(np.full(len(own), GAMED_WEIGHT / len(gamed)))
    return Rows(np.concatenate(x), np.concatenate(y), np.concatenate(weight))


def chosen_strength(rows: Rows) -> float:
    """The C whose fits predict the folds left out best, by mean log loss; the smaller one of equals."""
    fold_N = np.arange(len(rows.y_N)) % FOLDS
    losses = np.zeros(len(STRENGTHS))
    for fold in range(FOLDS):
        kept, left_out = rows[fold_N != fold], rows[fold_N == fold]
        for at, strength in enumerate(STRENGTHS):
            losses[at] += _loss(left_out, _fit(kept, strength)) / max(len(left_out.y_N), 1)
    return float(STRENGTHS[int(np.argmin(losses))])


def fit(rows: Rows, strength: float) -> Weights:
    """The weights w that minimise |w|_1 + C · log loss."""
    return Weights(*map(float, _fit(rows, strength)))


def _fit(rows: Rows, strength: float) -> Floats:
    """Proximal Newton: the log loss as a parabola, its sum with the penalty minimised one weight at a time, half steps
    where that overshoots."""
    w = np.zeros(3)
    value = strength * _loss(rows, w)
    for _ in range(STEPS):
        p_N = expit(rows.x_N3 @ w)
        slope = strength * (rows.x_N3.T @ (rows.weight_N * (p_N - rows.y_N)))
        bend = strength * ((rows.x_N3.T * (rows.weight_N * p_N * (1 - p_N))) @ rows.x_N3)
        step = _minimum(w, slope, bend) - w
        for _ in range(30):
            new = strength * _loss(rows, w + step) + float(np.abs(w + step).sum())
            if new <= value + 1e-12 * abs(value):
                break
            step = step / 2
        else:
            return w
        w, value = w + step, new
        if float(np.abs(step).max()) < TOLERANCE:
            return w
    return w


def _minimum(w: Floats, slope: Floats, bend: Floats) -> Floats:
    """Where slope·(v - w) + (v - w)'bend(v - w) / 2 + |v|_1 is least."""
    v = w.copy()
    for _ in range(STEPS):
        before = v.copy()
        for k in range(len(v)):
            if bend[k, k] > 0:
                free = bend[k, k] * v[k] - slope[k] - bend[k] @ (v - w)
                v[k] = np.sign(free) * max(abs(free) - 1.0, 0.0) / bend[k, k]
        if float(np.abs(v - before).max()) < TOLERANCE:
            break
    return v


def _loss(rows: Rows, w: Floats) -> float:
    """The sum of weighted log losses."""
    logit_N = rows.x_N3 @ w
    return float(rows.weight_N @ (np.logaddexp(0, logit_N) - rows.y_N * logit_N))
