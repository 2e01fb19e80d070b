"""Weighted means over examples against numbers worked out by hand; intervals and tests against what they mean."""

import numpy as np
import pytest

from reward_distiller.evaluate.metrics import average, combined, difference, figure, grouped, mean

VALUES = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}
OWN = {name: name for name in VALUES}


def test_means_of_groups_and_their_weighted_sums():
    groups = grouped(VALUES, {"a": "x", "b": "x", "c": "y", "d": "y"})
    assert {name: metric.value for name, metric in groups.items()} == {"x": 0.5, "y": 1.0}
    assert average(list(groups.values())).value == 0.75
    assert combined([(3, groups["x"]), (0.5, groups["y"])]).value == 2.0
    assert mean(VALUES).value == 0.75


def test_the_interval_is_over_prompts():
    rng = np.random.default_rng(1)
    prompts = {f"{p}:{i}": str(p) for p in range(40) for i in range(5)}
    answer = {str(p): float(rng.random() < 0.6) for p in range(40)}
    alike = {example: answer[prompt] for example, prompt in prompts.items()}
    found = figure(mean(alike), prompts)
    share = np.mean(list(answer.values()))
    error = 100 * np.sqrt(share * (1 - share) / 40)
    assert found.n == 40
    assert found.value == pytest.approx(100 * share)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert figure(mean(alike), {e: e for e in alike}).high < found.high  # pairs of one prompt are not independent


def test_a_small_group_is_never_empty_in_a_resample():
    few = grouped({**{f"x{i}": i % 2 for i in range(500)}, "y": 1.0}, {**{f"x{i}": "x" for i in range(500)}, "y": "y"})
    both = average(list(few.values()))
    found = figure(both, {**{f"x{i}": f"x{i}" for i in range(500)}, "y": "y"})
    assert np.isfinite([found.low, found.high]).all()
    assert found.value == 75.0
    assert found.low > 70


def test_the_difference_is_paired_and_its_p_exact_enough():
    better = {str(i): 1.0 for i in range(8)}
    worse = {**better, "0": 0.0, "1": 0.0, "2": 0.0}
    found = difference(mean(better), mean(worse), {str(i): str(i) for i in range(8)})
    assert found.figure.value == 37.5
    assert found.p == pytest.approx(2 / 2**3, abs=0.02)  # all three signs alike
    none = difference(mean(better), mean(better), {str(i): str(i) for i in range(8)})
    assert (none.figure.value, none.p) == (0.0, 1.0)
    with pytest.raises(ValueError, match="other examples"):
        difference(mean(better), mean({"0": 1.0}), {str(i): str(i) for i in range(8)})


def test_no_values_have_no_mean():
    with pytest.raises(ValueError, match="no values"):
        mean({})
