"""A bandit that chooses among reward models, one a step (LASeR: Nguyen et al., 2024, section 3).

LinUCB (Li et al., 2010, algorithm 1, disjoint arms) with the batch's mean prompt state as context. What it learns from
is minus the loss that the chosen model's preferences leave the policy with, between the 20th and 80th percentile of the
losses so far. LASeR's loss is DPO's with the NLL of the preferred response; for the policy that has just sampled the
responses, DPO's part is the constant ln 2, so ours is the NLL alone. Its state is its history. Knows no models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
LOW, HIGH = 0.2, 0.8  # quantiles of the losses so far between which a loss is told from others


@dataclass
class LinUCB:
    """Disjoint linear arms with an identity prior; `exploration` weighs the upper confidence bound."""

    arms: int
    exploration: float
    history: list[tuple[Vector, int, float]] = field(default_factory=list)  # context, arm, loss

    def __post_init__(self) -> None:
        self._inverse: list[Vector] = []  # of each arm's A = I + sum of x x'
        self._sums: list[Vector] = []  # of each arm's rewarded contexts
        past, self.history = self.history, []
        for context, arm, loss in past:
            self.learn(context, arm, loss)

    def choose(self, context: Sequence[float]) -> int:
        """The arm with the highest upper confidence bound; the first of several."""
        x = self._unit(context)
        bounds = [
            float(x @ inverse @ total) + self.exploration * math.sqrt(max(0.0, float(x @ inverse @ x)))
            for inverse, total in zip(self._inverse, self._sums, strict=True)
        ]
        return int(np.argmax(np.round(bounds, 12)))

    def learn(self, context: Sequence[float] | Vector, arm: int, loss: float) -> None:
        x = self._unit(context)
        reward = self._reward(loss)
        self.history.append((np.asarray(context, dtype=float), arm, loss))
        inverse = self._inverse[arm]
        v = inverse @ x
        self._inverse[arm] = inverse - np.outer(v, v) / (1 + x @ v)  # Sherman and Morrison
        self._sums[arm] = self._sums[arm] + reward * x

    def _unit(self, context: Sequence[float] | Vector) -> Vector:
        x = np.asarray(context, dtype=float)
        if not self._inverse:
            self._inverse = [np.eye(len(x)) for _ in range(self.arms)]
            self._sums = [np.zeros(len(x)) for _ in range(self.arms)]
        return x / max(float(np.linalg.norm(x)), 1e-12)

    def _reward(self, loss: float) -> float:
        """1 for a loss that is low among those so far, 0 for a high one; 1/2 while there is nothing to compare with."""
        losses = [past for _, _, past in self.history]
        if not losses:
            return 0.5
        low, high = np.quantile([*losses, loss], [LOW, HIGH])
        return 0.5 if high == low else float(np.clip((high - loss) / (high - low), 0.0, 1.0))
