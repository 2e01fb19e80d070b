"""PandaLM's majorities and prompts by hand, and its real file."""

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.pandalm import BENCHMARK
from reward_distiller.evaluate.benchmarks.protocol import Example, Unused
from reward_distiller.evaluate.benchmarks.reading import load


def row(idx: int, votes: tuple[object, object, object] = (1, 1, 1), **changes: object) -> dict[str, object]:
    labels = {f"annotator{i}": vote for i, vote in enumerate(votes, 1)}
    return {"idx": idx, "instruction": "Do", "input": "this", "response1": "a", "response2": "b", **labels, **changes}


def test_the_majority_counts():
    first, second, tie, none = read(BENCHMARK, [row(0), row(1, (2, 1, "2")), row(2, (0, 0, 1)), row(3, (0, 1, 2))])
    assert [first.responses, second.responses] == [("a", "b"), ("b", "a")]
    assert [e.tied for e in (first, second, tie)] == [False, False, True]
    assert none == Unused("3", "the annotators have no majority")


def test_the_input_stands_behind_the_instruction():
    made = read(BENCHMARK, [row(0), row(1, input="")])
    assert [e.prompt.messages[0].content for e in made if isinstance(e, Example)] == ["Do\n\nthis", "Do"]


def test_by_hand():
    rows = [row(0), row(1), row(2, (1, 2, 2)), row(3, (0, 0, 0))]
    outcomes = answered(read(BENCHMARK, rows), [[1, 0], [0, 0], [1, 0], [1, 0]])
    assert values(BENCHMARK, outcomes) == pytest.approx({"overall": 2 / 3, "unanimous": 1 / 2, "two_of_three": 1})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"annotator2": 3}, "field 'annotator2': 3 is no label"),
        ({"annotator2": None}, "field 'annotator2': missing"),
        ({"instruction": None}, "field 'instruction': missing"),
        ({"response1": ["a"]}, "field 'response1': a list, not text"),
        ({"idx": None}, "field 'idx': missing"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2, " + problem):
        read(BENCHMARK, [row(0), {**row(1), **change}])


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("pandalm")))
    assert balance.line() == "load pandalm: in 999 rows = kept 999"
    assert sum(e.tied for e in examples) == 105
    assert sum("True" in e.responses for e in examples) >= 6


def test_no_outcome_gives_no_figure():
    assert values(BENCHMARK, []) == {}
