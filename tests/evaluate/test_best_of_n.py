"""Best-of-N over all subsets, against the subsets themselves."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from reward_distiller.evaluate.best_of_n import best_of, kl_of_best_of


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_it_is_the_mean_over_all_subsets(n: int) -> None:
    rng = random.Random(n)
    rewards, values = [rng.random() for _ in range(6)], [rng.random() for _ in range(6)]
    picks = [values[max(s, key=rewards.__getitem__)] for s in itertools.combinations(range(6), n)]
    assert best_of(n, rewards, values) == pytest.approx(sum(picks) / len(picks))


def test_equal_rewards_are_picked_with_equal_chance() -> None:
    rewards, values = [1.0, 2.0, 2.0, 2.0], [0.0, 3.0, 6.0, 9.0]
    picks = []
    for order in itertools.permutations(range(4)):  # the first of the best in a drawn order
        for subset in itertools.combinations(order, 2):
            picks.append(values[max(subset, key=lambda at: rewards[at])])
    assert best_of(2, rewards, values) == pytest.approx(sum(picks) / len(picks))
    assert best_of(4, rewards, values) == pytest.approx(6.0)


@pytest.mark.parametrize("n", [0, 4])
def test_more_than_there_are(n: int) -> None:
    with pytest.raises(ValueError, match="there are 3"):
        best_of(n, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])


def test_the_kl_of_best_of_n() -> None:
    assert kl_of_best_of(1) == 0
    assert kl_of_best_of(4) == pytest.approx(math.log(4) - 0.75)
