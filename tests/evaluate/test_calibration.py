"""Calibration figures against numbers worked out by hand, the bootstrap against what it means, and real strengths."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from reward_distiller.errors import BenchmarkError
from reward_distiller.evaluate.answers import Rewards, outcome
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.benchmarks.strengths import ALPACA_EVAL, STRENGTH_SETS, ULTRAFEEDBACK, load
from reward_distiller.evaluate.calibration import calibrate, of_outcomes
from reward_distiller.evaluate.resampling import Estimate, bootstrap, correlation, levels, ranks
from reward_distiller.evaluate.trivial import Length
from reward_distiller.files import write_rows
from reward_distiller.records import Prompt


def data(name: str) -> Path:
    """A file or folder of the real data; the test is skipped where it is not there."""
    path = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / name
    if not path.exists():
        pytest.skip(f"{name} is not in $REWARD_DISTILLER_DATA")
    return path


def names(count: int) -> list[str]:
    return [f"p{at}" for at in range(count)]


def test_perfect_margins_are_perfect_in_every_figure():
    teacher = [3.0, -1.0, 2.0, 0.5]
    found = calibrate([2 * t for t in teacher], teacher, names(4))
    values = {name: figure.value for name, figure in found.figures.items()}
    for name in ("spearman", "pearson", "same_sign", "strength_spearman"):
        assert values[name] == pytest.approx(1)
    assert values["slope"] == pytest.approx(2)
    assert (found.pairs, found.ties) == (4, 0)


def test_figures_by_hand():
    found = calibrate([1.0, 2.0, -1.0], [2.0, 1.0, 1.0], names(3))
    values = {name: figure.value for name, figure in found.figures.items()}
    assert values["slope"] == pytest.approx((2 + 2 - 1) / 6)
    assert values["pearson"] == pytest.approx(3 / math.sqrt(6 * 6))
    assert values["same_sign"] == pytest.approx(2 / 3)
    # Signed ranks 2, 5, -2 and 5, 2, 2.
    assert values["spearman"] == pytest.approx((10 + 10 - 4) / 33)
    assert values["strength_spearman"] == pytest.approx(stats.spearmanr([1, 2, -1], [2, 1, 1]).statistic)


def test_turning_pairs_around_changes_nothing():
    rng = np.random.default_rng(3)
    r, t = rng.normal(size=60), rng.integers(-3, 4, size=60).astype(float)
    turn = rng.choice([-1, 1], size=60)
    ours, turned = calibrate(r, t, names(60), resamples=50), calibrate(turn * r, turn * t, names(60), resamples=50)
    for name, figure in ours.figures.items():
        assert figure.value == pytest.approx(turned.figures[name].value)
        assert figure.low == pytest.approx(turned.figures[name].low)
    assert ours.reliability == turned.reliability
    both = stats.spearmanr(np.r_[r, -r], np.r_[t, -t]).statistic
    assert ours.figures["spearman"].value == pytest.approx(both)


def test_ties_and_equal_margins():
    found = calibrate([1.0, 0.0, 5.0], [1.0, 1.0, 0.0], names(3))
    assert found.figures["same_sign"].value == 0.5  # the tie has no sign; a margin of 0 has not the teacher's
    assert found.ties == 1
    flat = calibrate([0.0, 0.0], [1.0, 2.0], names(2))
    assert math.isnan(flat.figures["pearson"].value)
    assert flat.as_dict()["figures"]["pearson"] == {"value": None, "low": None, "high": None, "n": 2}
    assert flat.figures["calibration_error"].value == 0  # surely unsure


def test_the_reliability_table_by_hand():
    sure = math.log(0.93 / 0.07)
    found = calibrate([sure, -sure, sure, sure, 0.0], [1, -2, 1, -1, 3], names(5))
    assert [(b.low, b.high, b.pairs) for b in found.reliability] == [(0.5, 0.55, 1), (0.9, 0.95, 4)]
    assert (found.reliability[0].confidence, found.reliability[0].frequency) == (0.5, 0.5)
    assert found.reliability[1].confidence == pytest.approx(0.93)
    assert found.reliability[1].frequency == 0.75
    assert found.figures["calibration_error"].value == pytest.approx(0.8 * 0.18)


def test_probabilities_that_are_right_have_almost_no_calibration_error():
    rng = np.random.default_rng(5)
    r = rng.normal(0, 2, size=20000)
    t = np.where(rng.random(20000) < 1 / (1 + np.exp(-r)), 1.0, -1.0)
    assert calibrate(r, t, names(20000), resamples=2).figures["calibration_error"].value < 0.012
    assert calibrate(3 * r, t, names(20000), resamples=2).figures["calibration_error"].value > 0.1


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="as many"):
        calibrate([1.0], [1.0, 2.0], names(2))
    with pytest.raises(ValueError, match="finite"):
        calibrate([math.nan], [1.0], names(1))
    with pytest.raises(ValueError, match="no examples"):
        calibrate([], [], [])


def test_the_bootstrap_is_over_prompts():
    rng = np.random.default_rng(1)
    own = rng.normal(size=100)
    value, prompts = np.repeat(own, 4), [str(p) for p in range(100) for _ in range(4)]
    found = bootstrap(lambda at: {"mean": float(value[at].mean())}, prompts)["mean"]
    assert found.n == 100
    assert found.high - found.low == pytest.approx(2 * 1.96 * own.std() / 10, rel=0.1)
    assert bootstrap(lambda at: {"mean": float(value[at].mean())}, prompts)["mean"] == found


def test_an_interval_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        x = rng.normal(size=80)
        y = 0.5 * x + math.sqrt(0.75) * rng.normal(size=80)
        by = bootstrap(lambda at, x=x, y=y: {"r": correlation(x[at], y[at])}, names(80), resamples=300)["r"]
        covered += by.low <= 0.5 <= by.high
    assert 0.89 <= covered / 200 <= 0.99


def test_a_figure_that_is_not_defined_has_no_interval():
    found = bootstrap(lambda at: {"never": math.nan}, names(3), resamples=5)["never"]
    assert math.isnan(found.value)
    assert math.isnan(found.low)
    assert Estimate(1.0, 0.5, 1.5, 3).as_dict() == {"value": 1.0, "low": 0.5, "high": 1.5, "n": 3}


def test_ranks_are_scipys_and_equal_values_have_no_correlation():
    values = np.array([3.0, 1.0, 3.0, 2.0, 1.0, 1.0])
    assert ranks(levels(values)).tolist() == stats.rankdata(values).tolist()
    assert math.isnan(correlation(np.full(7, 0.1), np.arange(7.0)))
    assert correlation(np.arange(5.0) * 1e-12, np.arange(5.0)) == pytest.approx(1)


ALPACA_ROWS = [
    {"idx": 0, "instruction": "Name a colour.", "output": "Blue."},
    {"idx": 1, "instruction": "Name a fruit.", "output": "Plum."},
    {"idx": 0, "generator": "m", "output": "Red, say.", "preference": 1.9},
    {"idx": 1, "generator": "m", "output": "Stone", "preference": 1.25},
    {"idx": 0, "generator": "n", "output": "Blue.", "preference": 1.5},
    {"idx": 1, "generator": "n", "output": " ", "preference": 1.0},
    {"idx": 1, "generator": "NullModel", "output": "x", "preference": 1.99},
    {"idx": 1, "generator": "o", "output": "Pear.", "preference": 1.5},
]


def test_alpaca_eval_puts_the_preferred_response_first(tmp_path):
    write_rows(tmp_path / "all.jsonl", ALPACA_ROWS)
    examples, strengths, balance = load(ALPACA_EVAL, str(tmp_path / "all.jsonl"))
    by_id = {example.id: example for example in examples}
    assert by_id["m:0"].responses == ("Red, say.", "Blue.")
    assert by_id["m:1"].responses == ("Plum.", "Stone")
    assert strengths == pytest.approx({"m:0": 0.8, "m:1": 0.5, "o:1": 0.0})
    assert by_id["o:1"].tied
    assert not by_id["m:0"].tied
    assert balance.counts == {"kept": 5, "dropped": 3}
    assert set(balance.reasons["dropped"]) == {
        "equal responses",
        "empty response",
        "an adversarial constant response, not an answer",
    }


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"idx": 0, "generator": "m", "output": "a", "preference": 2.5}, "field 'preference': 2.5 is not a preference"),
        ({"idx": 0, "generator": "m", "output": "a"}, "field 'preference': missing"),
        ({"idx": 7, "generator": "m", "output": "a", "preference": 1.5}, "7 has no reference"),
        ({"idx": "0", "generator": "m", "output": "a", "preference": 1.5}, "not a whole number"),
        ({"idx": 0, "instruction": "again", "output": "a"}, "stands there twice"),
    ],
)
def test_rows_that_are_not_alpaca_evals(tmp_path, row, said):
    write_rows(tmp_path / "all.jsonl", [*ALPACA_ROWS, row])
    with pytest.raises(BenchmarkError, match=said):
        load(ALPACA_EVAL, str(tmp_path / "all.jsonl"))


def test_ultrafeedback_goes_by_the_scores(tmp_path):
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "source_index": 1, "metadata": scores}
        for scores in ({"score_chosen": 4, "score_rejected": 7.5},)
    ]
    write_rows(tmp_path / "eval_200.jsonl", rows)
    examples, strengths, _ = load(ULTRAFEEDBACK, str(tmp_path))
    assert examples[0].responses == ("b", "a")
    assert strengths == {"eval_200:1": 3.5}
    write_rows(tmp_path / "eval_200.jsonl", [{**rows[0], "metadata": {"score_chosen": 4}}])
    with pytest.raises(BenchmarkError, match=r"field 'metadata.score_rejected': missing"):
        load(ULTRAFEEDBACK, str(tmp_path))


def test_prometheus_margins_are_differences_of_mean_scores():
    examples, strengths, balance = load(STRENGTH_SETS["prometheus"], str(data("prometheus")))
    assert balance.total == 640
    assert len(examples) == len(strengths) > 100
    assert 0 < min(strengths.values()) < 0.34  # one of three samples differs by one point
    assert max(strengths.values()) <= 4


@pytest.mark.parametrize("name", ["alpaca_eval", "ultrafeedback"])
def test_real_strengths_are_all_accounted_for_and_length_is_a_poor_teacher(name):
    examples, strengths, balance = load(STRENGTH_SETS[name], str(data(name)))
    assert balance.total == {"alpaca_eval": 805 + 16 * 805, "ultrafeedback": 1200}[name]
    assert len(examples) == len(strengths)
    assert min(strengths.values()) == 0
    some = examples[::10]
    answers = Length().answer(some, lambda: None)
    outcomes = [outcome(example, answer) for example, answer in zip(some, answers, strict=True)]  # type: ignore[arg-type]
    found = of_outcomes(outcomes, strengths)
    assert found.pairs == len(some)
    assert 0 < found.figures["spearman"].value < 0.85
    assert sum(each.pairs for each in found.reliability) == found.pairs


def test_of_outcomes_reads_the_first_responses_lead():
    examples = [Example(str(i), Prompt.from_text(str(i)), ("a", "b")) for i in range(3)]
    outcomes = [outcome(e, Rewards((float(i), 0.0))) for i, e in enumerate(examples, 1)]
    assert of_outcomes(outcomes, {"0": 1, "1": 2, "2": 3}).figures["slope"].value == pytest.approx(1)
