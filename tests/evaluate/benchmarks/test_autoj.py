"""Auto-J's labels, ties and groups by hand, and its real file."""

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.autoj import BENCHMARK, GROUP_OF
from reward_distiller.evaluate.benchmarks.reading import load


def row(label: object = 0, scenario: object = "chitchat", **changes: object) -> dict[str, object]:
    return {"scenario": scenario, "label": label, "prompt": "Hi", "response 1": "one", "response 2": "two", **changes}


def test_labels():
    first, second, tie = read(BENCHMARK, [row(0), row(1), row(2)])
    assert [first.responses, second.responses] == [("one", "two"), ("two", "one")]
    assert [e.tied for e in (first, second, tie)] == [False, False, True]


def test_groups_by_hand_without_ties():
    scenarios = ["creative_writing", "counterfactual", "counterfactual", "code_generation"]
    rows = [row(0, name) for name in scenarios] + [row(2, "ranking")]
    outcomes = answered(read(BENCHMARK, rows), [[1, 0], [0, 1], [1, 1], [1, 0], [1, 0]])
    assert values(BENCHMARK, outcomes) == pytest.approx(
        {
            "overall": 2 / 4,
            "creative_writing": 1 / 3,
            "code": 1,
            "scenario.creative_writing": 1,
            "scenario.counterfactual": 0,
            "scenario.code_generation": 1,
        }
    )
    assert BENCHMARK.metrics(outcomes).notes == ["1 of 5 pairs are tied and left out"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": 3}, "field 'label': 3 is no label"),
        ({"label": True}, "field 'label': True is no label"),
        ({"scenario": "poetry"}, "field 'scenario': 'poetry' is no scenario"),
        ({"response 2": None}, "field 'response 2': missing"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2, " + problem):
        read(BENCHMARK, [row(), row(**change)])


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("autoj")))
    assert balance.line() == "load autoj: in 1392 rows = kept 1392"
    assert sum(e.tied for e in examples) == 373
    assert {e.labels["scenario"] for e in examples} == set(GROUP_OF)
    assert len({e.labels["group"] for e in examples}) == 8


def test_no_outcome_gives_no_figure():
    assert values(BENCHMARK, []) == {}
