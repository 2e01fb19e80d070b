"""One's own pairs and lists: the formats that are read, the credit of a pick by hand, and malformed rows."""

import numpy as np
import pytest
from benchmark_rows import answered, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.own import BEST_OF_N, PAIRS, credit
from reward_distiller.evaluate.benchmarks.protocol import Example, Outcome

USER, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "Hi"), ("assistant", "good"), ("assistant", "bad"))
)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "good", "rejected": "bad"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    ],
)
def test_preference_formats(row):
    (example,) = read(PAIRS, [row])
    assert isinstance(example, Example)
    assert (example.id, example.prompt.messages[0].content, example.responses) == ("1", "Hi", ("good", "bad"))


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"chosen": "a", "rejected": ["b", "c"]}, ("a",)),
        ({"chosen": ["a", "b"], "rejected": ["c"]}, ("a", "b")),
        ({"responses": ["c", "a", "b"], "best": 1}, ("a",)),
        ({"responses": ["c", "a", "b"], "best": [1, 2]}, ("a", "b")),
    ],
)
def test_list_formats(row, right):
    (example,) = read(BEST_OF_N, [{"prompt": "Hi", "id": "mine", **row}])
    assert isinstance(example, Example)
    assert (example.id, example.responses[: example.right]) == ("mine", right)
    assert sorted(example.responses) == ["a", "b", "c"]


def test_figures_by_hand():
    rows = [{"prompt": "Hi", "chosen": "a", "rejected": "b", "category": c} for c in ("x", "x", "overall", None)]
    found = values(PAIRS, answered(read(PAIRS, rows), [[1, 0], [0, 0], [1, 0], [0, 1]]))
    assert found == {"overall": 1 / 2, "category.x": 1 / 2, "category.overall": 1}
    lists = [{"prompt": "Hi", "chosen": "a", "rejected": ["b", "c"], "category": c} for c in "xyy"]
    found = values(BEST_OF_N, answered(read(BEST_OF_N, lists), [[1, 0, 0], [1, 1, 0], [0, 1, 0]]))
    assert found == {"overall": 1 / 2, "category.x": 1, "category.y": 1 / 4}


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([2, 0, 1, 1], 1),
        ([2, 2, 1, 1], 1),  # two right ones at the top: any pick is right
        ([2, 0, 2, 1], 1 / 2),
        ([2, 2, 2, 1], 2 / 3),
        ([0, 0, 1, 0], 0),
        ([0, 0, 0, 0], 1 / 2),
    ],
)
def test_the_credit_of_a_pick(rewards, expected):
    (example,) = read(BEST_OF_N, [{"prompt": "Hi", "chosen": ["a", "b"], "rejected": ["c", "d"]}])
    (outcome,) = answered([example], [rewards])
    assert credit(outcome) == pytest.approx(expected)


def test_credit_of_comparisons_of_right_with_wrong_alone():
    (example,) = read(BEST_OF_N, [{"prompt": "Hi", "chosen": "a", "rejected": ["b", "c"]}])
    assert isinstance(example, Example)
    nan = float("nan")
    assert credit(Outcome(example, np.array([[nan, 1, 2], [-1, nan, nan], [-2, nan, nan]]))) == 1
    assert credit(Outcome(example, np.array([[nan, 1, -2], [-1, nan, nan], [2, nan, nan]]))) == 0


@pytest.mark.parametrize(
    ("benchmark", "row", "problem"),
    [
        (PAIRS, {"prompt": "Hi", "chosen": "a"}, "field 'rejected': missing"),
        (PAIRS, {"chosen": "a", "rejected": "b"}, "field 'prompt': missing"),
        (PAIRS, {"chosen": [USER, GOOD], "rejected": [BAD, BAD]}, "chosen and rejected begin differently"),
        (PAIRS, {"prompt": "Hi", "chosen": "a", "rejected": "b", "category": 3}, "field 'category': 3, not text"),
        (BEST_OF_N, {"prompt": "Hi", "chosen": "a", "rejected": "b"}, "field 'rejected': not a list of texts"),
        (BEST_OF_N, {"prompt": "Hi", "responses": ["a", "b"], "best": 2}, "field 'best': 2 is no place"),
        (BEST_OF_N, {"prompt": "Hi", "responses": ["a", "b"], "best": True}, "field 'best': True is no place"),
        (BEST_OF_N, {"prompt": "Hi", "responses": ["a", "b"], "best": []}, "field 'best': .* is no place"),
        (BEST_OF_N, {"prompt": "Hi", "responses": ["a"], "best": 0}, "field 'best': all responses are the best"),
        (BEST_OF_N, {"prompt": "Hi", "responses": ["a", "b"]}, "field 'best': missing"),
    ],
)
def test_malformed_rows_are_named(benchmark, row, problem):
    with pytest.raises(DataError, match=f"row 1.*{problem}"):
        read(benchmark, [row])


@pytest.mark.parametrize("benchmark", [PAIRS, BEST_OF_N])
def test_no_outcome_gives_no_figure(benchmark):
    assert values(benchmark, []) == {}
