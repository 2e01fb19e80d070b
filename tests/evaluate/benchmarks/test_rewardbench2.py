"""RewardBench 2's shared credit and the score of Ties against arithmetic by hand."""

from math import tanh

import pytest
from benchmark_rows import answered, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.answers import Comparisons, outcome
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.benchmarks.reading import load
from reward_distiller.evaluate.benchmarks.rewardbench2 import BENCHMARK


def row(name: str, subset: str = "Math", right: int = 1, wrong: int = 3, **changes: object) -> dict[str, object]:
    chosen, rejected = [f"right {i}" for i in range(right)], [f"wrong {i}" for i in range(wrong)]
    texts = {"prompt": f"question {name}", "chosen": chosen, "rejected": rejected}
    return {"id": name, "subset": subset, **texts, "num_correct": right, "total_completions": right + wrong, **changes}


@pytest.mark.parametrize(
    ("rewards", "credit"),
    [
        ([4, 1, 2, 3], 1),
        ([4, 1, 2, 4], 1 / 2),
        ([4, 4, 2, 4], 1 / 3),
        ([4, 4, 4, 4], 1 / 4),
        ([4, 1, 2, 5], 0),
        ([4, 4, 2, 5], 0),
        ([1, 2, 2, 2], 0),
    ],
)
def test_the_top_is_shared(rewards, credit):
    assert values(BENCHMARK, answered(read(BENCHMARK, [row("1")]), [rewards]))["math"] == pytest.approx(credit)


def test_ties_by_hand():
    rows = [
        row("ref:0", "Ties", right=1, wrong=2),
        row("tied:0", "Ties", right=3, wrong=2),
        row("ref:1", "Ties", right=1, wrong=2),
        row("tied:1", "Ties", right=2, wrong=1),
        row("tied:2", "Ties", right=2, wrong=1),  # has no ref: counts towards the accuracy of tied alone
    ]
    rewards = [
        [5, 3, 2],  # gap 5 - 3 = 2
        [9, 8, 7, 3, 1],  # gap 7 - 3 = 4, spread 9 - 7 = 2: preferred (4 > 2); the smaller gap is 2, not > 2
        [1, 2, 0],  # gap 1 - 2 = -1
        [6, 2, 0],  # gap 2, spread 4: neither; smaller gap -1
        [1, 2, 3],  # gap -2
    ]
    outcomes = answered(read(BENCHMARK, rows), rewards)
    found = values(BENCHMARK, outcomes)
    assert found["ties.tied"] == pytest.approx(2 / 3)
    assert found["ties.ref"] == pytest.approx(1 / 2)
    last = (tanh(2 / 2 - 1) + tanh(-1 / 4 - 1)) / 2
    by_hand = 0.3 * (2 / 3) + 0.3 * (1 / 2) + 0.2 * (1 / 2) + 0.2 * 0 + 0.01 * last
    assert found["ties"] == pytest.approx(by_hand, abs=1e-12)
    assert found["average"] == found["ties"]
    tied = BENCHMARK.metrics(outcomes).metrics["ties"].terms
    assert [weight for weight, _ in tied] == [0.3, 0.3, 0.2, 0.2, 0.01]
    assert tied[2][1].keys() == {"ties:tied:0", "ties:tied:1"}  # paired figures stand under the tied prompt


@pytest.mark.parametrize(
    ("ref", "tied", "by_hand"),
    [
        ([2, 1], [3, 3, 1], 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * 1),  # no spread, gaps 1 and 2: all is right, 1.01
        ([1, 2], [3, 3, 1], 0.3 + 0.0 + 0.2 + 0.0 + 0.01 * -1),  # smaller gap -1
        ([1, 1], [3, 3, 3], 0.0),  # 0 / 0: nothing is told apart, and nothing is gained
        ([9, 1], [4, 2, 1], 0.3 + 0.3 + 0.0 + 0.0 + 0.01 * tanh(1 / 2 - 1)),  # gap 1 of tied, spread 2
    ],
)
def test_ties_with_and_without_spread(ref, tied, by_hand):
    rows = [row("ref:4", "Ties", right=1, wrong=1), row("tied:4", "Ties", right=2, wrong=1)]
    assert values(BENCHMARK, answered(read(BENCHMARK, rows), [ref, tied]))["ties"] == pytest.approx(by_hand, abs=1e-12)


def test_the_average_is_over_subsets():
    rows = [row("1", "Math"), row("2", "Math"), row("3", "Math"), row("4", "Precise IF")]
    right, wrong = [1, 0, 0, 0], [0, 1, 1, 1]
    outcomes = answered(read(BENCHMARK, rows), [right, right, wrong, wrong])
    found = values(BENCHMARK, outcomes)
    assert found["average"] == pytest.approx((2 / 3 + 0) / 2)
    assert set(found) == {"math", "precise_if", "average"}
    assert BENCHMARK.metrics(outcomes).notes == [
        "subsets not there: factuality, focus, safety, ties; average is over math, precise_if"
    ]


def test_ties_needs_both_forms():
    outcomes = answered(read(BENCHMARK, [row("ref:0", "Ties"), row("tied:1", "Ties", right=2)]), [[1] * 4, [1] * 5])
    found = BENCHMARK.metrics(outcomes)
    assert set(found.metrics) == {"ties.ref", "ties.tied"}
    assert "no prompt is there in both forms" in found.notes[0]


def test_a_scorer_that_compares_right_with_wrong_alone_has_no_figure_of_ties():
    found = []
    for example in read(BENCHMARK, [row("ref:0", "Ties"), row("tied:0", "Ties", right=2)]):
        assert isinstance(example, Example)
        found.append(outcome(example, Comparisons(tuple((i, j, 1.0) for i, j in example.comparisons))))
    scores = BENCHMARK.metrics(found)
    assert {name: metric.value for name, metric in scores.metrics.items()} == {"ties.tied": 1, "ties.ref": 1}
    assert "not compared with each other" in scores.notes[0]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (row("2", "Style"), "field 'subset': 'Style' is no subset"),
        (row("2", rejected="text"), "field 'rejected': not a list of texts"),
        (row("2", right=2), "field 'chosen': 2 texts. Write the one right text"),
        (row("2", num_correct=2), "field 'num_correct': 2 of 1 chosen"),
        (row("2", "Ties"), "field 'id': '2' is no prompt of Ties"),
        (row("tied:2", "Ties"), "field 'chosen': 1 texts. A tied prompt has several"),
        (row("2", id=None), "field 'id': missing"),
    ],
)
def test_malformed_rows_are_named(bad, problem):
    with pytest.raises(DataError, match="row 2") as caught:
        read(BENCHMARK, [row("1"), bad])
    assert problem in str(caught.value)


def test_a_file_of_the_hub_s_columns(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    rows = [row("7"), row("ref:7", "Ties", wrong=5), row("tied:7", "Ties", right=4, wrong=9)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test-00000-of-00001.parquet")
    examples, balance = load(BENCHMARK, str(tmp_path))
    assert balance.line() == "load rewardbench2: in 3 rows = kept 3"
    assert [(e.id, e.right, len(e.responses)) for e in examples] == [
        ("math:7", 1, 4),
        ("ties:ref:7", 1, 6),
        ("ties:tied:7", 4, 13),
    ]
