"""Intervals, differences and corrected p-values against values worked out by hand or by scipy.stats."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from reward_distiller.evaluate.statistics import bootstrap_difference, holm, mean_interval, paired_difference, percent


def test_mean_interval_is_students() -> None:
    # 2, 4, 6: mean 4, standard deviation 2; t of 2 degrees of freedom at 97.5% is 4.30265.
    found = mean_interval([2, 4, 6])
    reach = 4.30265 * 2 / math.sqrt(3)
    assert (found.mean, found.n, found.p) == (4, 3, None)
    assert (found.low, found.high) == pytest.approx((4 - reach, 4 + reach), abs=1e-4)
    with pytest.raises(ValueError, match="needs two"):
        mean_interval([1.0])


def test_paired_difference() -> None:
    # 1, 2, 3: mean 2, standard deviation 1, t = 2 / (1 / sqrt(3)) = 3.4641, of which 2 degrees of freedom leave 0.0742.
    found = paired_difference([11, 22, 33], [10, 20, 30])
    assert found.mean == 2
    assert found.p == pytest.approx(0.07418, abs=1e-5)
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-4)
    a, b = [60.1, 63.0, 58.7, 66.2, 61.0], [59.0, 63.5, 55.1, 60.9, 60.0]
    assert paired_difference(a, b).p == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert paired_difference(b, a).mean == -paired_difference(a, b).mean
    for of_different_length in ([1.0, 2.0], [1.0]):
        with pytest.raises(ValueError, match=r"as many|needs two"):
            paired_difference(of_different_length, [1.0])


def test_differences_without_spread() -> None:
    same = paired_difference([0.3, 0.7], [0.3, 0.7])
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)
    shifted = paired_difference([0.3, 0.4, 60.1], [0.1, 0.2, 59.9])  # 0.2 each, but for the last bits
    assert shifted.p is None
    assert (shifted.mean, shifted.low, shifted.high) == pytest.approx((0.2, 0.2, 0.2))


def test_bootstrap_difference_pairs_the_units() -> None:
    a, b = [1.0, 0.0, 1.0, 1.0] * 25, [1.0, 0.0, 0.0, 1.0] * 25
    found = bootstrap_difference(a, b)
    assert (found.value, found.n) == (25, 100)
    assert found.low == pytest.approx(25 - 8.5, abs=1.5)  # 1.96 sqrt(0.25 · 0.75 / 100) = 8.5 points
    assert found.high == pytest.approx(25 + 8.5, abs=1.5)
    assert found.high - found.low < percent(a).high - percent(b).low
    assert bootstrap_difference([1, 0], [0, 0], [3, 1]).value == 75
    assert bootstrap_difference(a, a).high == 0


def test_holm() -> None:
    # Sorted: 0.005 · 4, 0.01 · 3, 0.03 · 2, 0.04 · 1, none below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
