"""Accuracy on pairs, over all and by label: equal rewards lose, pairs that are tied by label are left out."""

from benchmark_rows import answered

from reward_distiller.evaluate.benchmarks.pairs import accuracy_of, by_label
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.records import Prompt


def pair(name: str, kind: str, right: int = 1) -> Example:
    return Example(name, Prompt.from_text(f"question {name}"), ("good", "bad"), right=right, labels={"kind": kind})


def test_a_pair_is_won_strictly_and_equal_rewards_lose():
    outcomes = answered([pair("a", "x"), pair("b", "x"), pair("c", "x")], [[2, 1], [1, 1], [1, 2]])
    assert accuracy_of(outcomes) == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_overall_weighs_pairs_and_not_labels():
    examples = [pair("a", "x"), pair("b", "y"), pair("c", "y"), pair("d", "y")]
    scores = by_label(answered(examples, [[0, 1], [1, 0], [1, 0], [0, 1]]), "kind")
    # x: 0 of 1; y: 2 of 3; overall: 2 of 4, not the mean of the two
    assert {name: metric.value for name, metric in scores.metrics.items()} == {"overall": 0.5, "x": 0.0, "y": 2 / 3}
    assert next(iter(scores.metrics)) == "overall"
    assert scores.notes == []


def test_tied_pairs_are_left_out_and_counted():
    outcomes = answered([pair("a", "x"), pair("b", "x", right=2), pair("c", "y", right=2)], [[1, 0], [0, 1], [0, 1]])
    scores = by_label(outcomes, "kind")
    assert {name: metric.value for name, metric in scores.metrics.items()} == {"overall": 1.0, "x": 1.0}
    assert scores.notes == ["2 of 3 pairs are tied and left out"]


def test_no_figure_where_all_pairs_are_tied():
    scores = by_label(answered([pair("a", "x", right=2)], [[0, 1]]), "kind")
    assert scores.metrics == {}
    assert scores.notes == ["1 of 1 pairs are tied and left out"]
