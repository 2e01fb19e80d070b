"""Accuracy on pairs by hand, and what the trivial scorers know."""

from __future__ import annotations

import itertools

import pytest

from reward_distiller.evaluate.pair_accuracy import accuracy, by_rewards, longer, source_model
from reward_distiller.evaluate.statistics import percent
from reward_distiller.records import Pair, Prompt


def pair(prompt: str, chosen: str, rejected: str, **provenance: str) -> Pair:
    scores = {"chosen_score": 2.0, "rejected_score": 1.0}
    return Pair.of(Prompt.from_text(prompt), chosen, rejected, "labeled", **scores, provenance=provenance)


def beats(winner: str, loser: str, at: int) -> Pair:
    return pair(f"{at}", f"{winner} wrote {at}", f"{loser} wrote {at}", chosen_model=winner, rejected_model=loser)


def test_accuracy_counts_pairs_and_resamples_prompts() -> None:
    scores = {"a": (2.0, 1.0), "b": (1.0, 1.0), "c": (0.0, 1.0), "d": (5.0, 1.0)}
    pairs = [pair("one", name, "x") for name in "abc"] + [pair("two", "d", "x")]
    figure = accuracy(pairs, lambda p: scores[p.chosen])
    assert figure.value == 50.0  # two of four pairs: a tie is a loss
    assert figure.n == 2  # prompts
    assert accuracy(pairs, lambda p: scores[p.chosen], tie=0.5).value == 62.5


def test_a_constant_scorer_is_never_right_unless_ties_count() -> None:
    pairs = [pair(str(i), "a", "b") for i in range(5)]
    assert accuracy(pairs, lambda p: (1.0, 1.0)).value == 0.0
    assert accuracy(pairs, lambda p: (1.0, 1.0), tie=0.5).value == 50.0


def test_intervals_contain_the_value_and_shrink_with_prompts() -> None:
    few = accuracy([pair(str(i), "a" * (1 + i % 3), "bb") for i in range(30)], longer)
    many = accuracy([pair(str(i), "a" * (1 + i % 3), "bb") for i in range(3000)], longer)
    for figure in (few, many):
        assert figure.low < figure.value < figure.high
        assert figure.value == pytest.approx(100 / 3, abs=1e-3)
    assert many.high - many.low < (few.high - few.low) / 5


def test_pairs_of_one_prompt_are_not_independent() -> None:
    alone = accuracy([pair(str(i), "a" * (1 + i % 2 * 2), "bb") for i in range(200)], longer)
    together = accuracy([pair(str(i // 20), f"{i}" + "a" * (i // 20 % 2 * 9), "bbbb") for i in range(200)], longer)
    assert alone.value == together.value == 50.0
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percent([])


def test_rewards_are_looked_up_by_pair() -> None:
    pairs = [pair("one", "long answer", "no"), pair("two", "x", "yy")]
    score = by_rewards(pairs, lambda rows: [[float(len(text)) for text in texts] for _, texts in rows])
    assert [score(p) for p in reversed(pairs)] == [(1.0, 2.0), (11.0, 2.0)]


def test_longer() -> None:
    assert longer(pair("one", "abc", "de")) == (3, 2)


def test_source_model_recovers_a_known_order() -> None:
    order = ["best", "good", "fair", "poor"]
    training = []
    for at, (strong, weak) in enumerate(itertools.combinations(order, 2)):
        training += [beats(strong, weak, 10 * at + i) for i in range(8)]
        training += [beats(weak, strong, 10 * at + 8 + i) for i in range(2)]
    score = source_model(training)
    assert score is not None
    for at, (strong, weak) in enumerate(itertools.combinations(order, 2)):
        chosen, rejected = score(beats(strong, weak, 1000 + at))
        assert chosen > rejected


def test_source_model_reads_no_text() -> None:
    score = source_model([beats("good", "poor", i) for i in range(10)])
    assert score is not None
    one = pair("a", "x", "y", chosen_model="good", rejected_model="poor")
    other = pair("b", "long and good", "", chosen_model="good", rejected_model="poor")
    assert score(one) == score(other)
    swapped = pair("a", "x", "y", chosen_model="poor", rejected_model="good")
    assert score(swapped) == score(one)[::-1]
    assert score(pair("a", "x", "y", chosen_model="new", rejected_model="newer")) == (0.0, 0.0)


def test_source_model_stays_finite_where_one_model_always_wins() -> None:
    score = source_model([beats("always", "never", i) for i in range(500)])
    assert score is not None
    chosen, rejected = score(beats("always", "never", 9999))
    assert 0 < chosen < 20
    assert chosen == pytest.approx(-rejected, rel=1e-3)


def test_source_model_needs_names() -> None:
    assert source_model([pair("one", "a", "b")]) is None
    assert source_model([beats("same", "same", 1)]) is None
