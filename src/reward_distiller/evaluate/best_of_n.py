"""Best-of-N out of M samples of each prompt, without sampling again for each N.

The expected value of what a reward picks out of N responses, over all subsets of N of the M (an unbiased estimate, as
pass@k is one: Chen et al., 2021, section 2.1). Equal rewards are picked with equal chance. Knows no models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def best_of(n: int, rewards: Sequence[float], values: Sequence[float]) -> float:
    """The mean of `values`, M of them, at the highest of `rewards` in subsets of n. Raises ValueError for n over M."""
    count = len(rewards)
    if not 1 <= n <= count or len(values) != count:
        raise ValueError(f"best of {n} needs {n} samples or more with a value each, and there are {count}")
    reward, value = np.asarray(rewards, dtype=float), np.asarray(values, dtype=float)
    order = np.argsort(reward, kind="stable")
    _, first, inverse, size = np.unique(reward[order], return_index=True, return_inverse=True, return_counts=True)
    tied = np.add.reduceat(value[order], first) / size
    return float(_chances(n, count) @ tied[inverse])


def _chances(n: int, count: int) -> NDArray[np.float64]:
    """That the response of each rank, the lowest reward first, is the best of n: C(rank - 1, n - 1) / C(count, n)."""
    whole = math.comb(count, n)
    return np.array([math.comb(rank, n - 1) / whole for rank in range(count)])


def kl_of_best_of(n: int) -> float:
    """The most that best-of-n is away from the policy it samples from, in nats (Beirami et al., 2024, theorem 1)."""
    return math.log(n) - (n - 1) / n
