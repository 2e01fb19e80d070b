"""EvalBiasBench by bias and overall: rows of the RM-Distiller paper's table 16, and the real file."""

from collections import Counter

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.evalbiasbench import BENCHMARK, PAIRS
from reward_distiller.evaluate.benchmarks.reading import load


def row(number: int, bias: str = "concreteness", **changes: object) -> dict[str, object]:
    texts = {"instruction": f"question {number}", "response1": f"first {number}", "response2": f"second {number}"}
    return {"bias": bias, **texts, "label": 1, **changes}


# The students' rows of table 16: how many of each bias are right, by the paper's figures, and its overall.
@pytest.mark.parametrize(
    ("right", "by_bias", "overall"),
    [
        ((3, 6, 9, 12, 7, 9), (17.6, 42.9, 69.2, 100.0, 58.3, 75.0), 57.5),  # RM-Distiller, GPT-4o: 46 of 80
        ((5, 10, 11, 12, 7, 6), (29.4, 71.4, 84.6, 100.0, 58.3, 50.0), 63.75),  # RM-Distiller, Qwen3-14B: 51 of 80
        ((1, 7, 1, 8, 4, 3), (5.9, 50.0, 7.7, 66.7, 33.3, 25.0), 30.0),  # BT classifier, GPT-4o: 24 of 80
    ],
)
def test_rows_of_table_16(right, by_bias, overall):
    rows, rewards = [], []
    for (bias, count), good in zip(PAIRS.items(), right, strict=True):
        rows += [row(len(rows) + i, bias) for i in range(count)]
        rewards += [[1, 0]] * good + [[0, 1]] * (count - good)
    assert len(rows) == 80
    outcomes = answered(read(BENCHMARK, rows), rewards)
    found = values(BENCHMARK, outcomes)
    assert 100 * found["overall"] == pytest.approx(overall)
    assert [round(100 * found[bias.replace(" ", "_")], 1) for bias in PAIRS] == list(by_bias)
    assert BENCHMARK.metrics(outcomes).notes == []


def test_the_label_says_which_is_better():
    first, second = read(BENCHMARK, [row(1), row(2, label=2)])
    assert (first.responses, second.responses) == (("first 1", "second 1"), ("second 2", "first 2"))


def test_a_part_of_the_benchmark_is_called_one():
    (note,) = BENCHMARK.metrics(answered(read(BENCHMARK, [row(1)]), [[1, 0]])).notes
    assert note == "1 of the benchmark's 80 pairs"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": 3}, "field 'label': 3 is neither 1 nor 2"),
        ({"label": "1"}, "field 'label': '1' is neither 1 nor 2"),
        ({"label": True}, "field 'label': True is neither 1 nor 2"),
        ({"bias": "charm"}, "field 'bias': 'charm' is no bias"),
        ({"bias": ["charm"]}, "field 'bias': ['charm'] is no bias"),
        ({"response2": None}, "field 'response2': missing"),
        ({"instruction": None}, "field 'instruction': missing"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2") as caught:
        read(BENCHMARK, [row(1), row(2, **change)])
    assert problem in str(caught.value)


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("evalbiasbench")))
    assert balance.as_dict()["in"] == balance.kept == len(examples) == 41
    counts = Counter(e.labels["bias"] for e in examples)
    assert [counts[bias.replace(" ", "_")] for bias in PAIRS] == [9, 7, 7, 6, 6, 6]
    lengths = answered(examples, [[len(text) for text in e.responses] for e in examples])
    assert values(BENCHMARK, lengths)["length_bias"] < 0.5  # the longer response is the worse one
