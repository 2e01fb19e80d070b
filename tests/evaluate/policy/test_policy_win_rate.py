"""The win rate of one policy over another, by hand."""

import pytest

from reward_distiller.evaluate.policy.win_rate import Compared, figures


def values(*compared):
    found = figures(compared)
    return {name: figure.value for name, figure in found.figures.items()}, found.notes


def test_ties_and_contradictions_count_half():
    found, notes = values(
        Compared("first", "first"), Compared("first", "second"), Compared("tie", "first"), Compared("second", "second")
    )
    assert found["win_rate"] == pytest.approx(100 * (1 + 0.5 + 0.75 + 0) / 4)
    assert (found["wins"], found["ties"], found["losses"]) == (50, 25, 25)
    assert found["consistency"] == 50
    assert found["first_shown"] == pytest.approx(100 * (1 + 2 + 0 + 1) / 7, abs=1e-3)
    assert not notes


def test_a_judge_that_prefers_what_stands_first_gives_one_half():
    found, _ = values(*[Compared("first", "second")] * 5)
    assert (found["win_rate"], found["consistency"], found["first_shown"]) == (50, 0, 100)


def test_one_order_stands_alone_and_says_nothing_of_consistency():
    found, notes = values(Compared("first", None), Compared(None, "second"))
    assert found["win_rate"] == 50
    assert "consistency" not in found
    assert "2 prompts have a readable verdict in one order only" in notes[0]


def test_identical_responses_tie_and_are_not_consistent_for_free():
    found, notes = values(Compared("tie", "tie", identical=True), Compared("first", "second"))
    assert (found["ties"], found["consistency"]) == (100, 0)
    assert "1 prompts have one and the same response" in notes[0]


def test_nothing_but_ties_leans_nowhere():
    found, _ = values(Compared("tie", "tie"))
    assert "first_shown" not in found
    assert found["consistency"] == 100


def test_no_prompts_are_no_figures():
    with pytest.raises(ValueError, match="no values"):
        figures([])
