"""Labeled responses as training data: single ones, and pairs within a prompt."""

import pytest

from reward_distiller.construct.labeled_responses import LabeledResponse, load_responses, pairs_within, singles
from reward_distiller.errors import DataError
from reward_distiller.records import Prompt


def rows(*given):
    return [{"prompt": p, "response": r, "reward": reward} for p, r, reward in given]


def load(*sources):
    return load_responses((f"file {at}", list(enumerate(own, 1)), {}) for at, own in enumerate(sources, 1))


def test_duplicates_across_files_count_once():
    found, balance = load(rows(("p", "a", 1), ("p", "b", 0.0)), rows(("p", "a", 1.0), ("p", " ", 0)))
    assert [(r.text, r.reward, r.score) for r in found] == [("a", 1.0, 10.0), ("b", 0.0, 1.0)]
    assert balance.reasons["dropped"] == {"duplicate response": 1, "empty response": 1}
    assert balance.examples["dropped: duplicate response"] == ["source 2, row 1"]


@pytest.mark.parametrize("reward", [None, -0.1, 1.5, float("nan"), True, "1"])
def test_a_reward_that_is_none_is_named(reward):
    with pytest.raises(DataError, match=r"file 1.*row 2.*reward"):
        load(rows(("p", "a", 0.5), ("p", "b", reward)))


def test_one_response_cannot_have_two_rewards():
    with pytest.raises(DataError, match=r"file 2.*Label a response once"):
        load(rows(("p", "a", 1)), rows(("p", "a", 0)))


OF_TWO = [(1.0, "policy"), (0.0, "teacher"), (1.0, "teacher"), (1.0, "teacher")]


def responses(*rewards, prompt="p"):
    return [LabeledResponse(Prompt.from_text(prompt), f"r{at}", reward) for at, reward in enumerate(rewards)]


def test_pairs_are_of_different_rewards_within_a_prompt_and_bounded():
    pairs, balance = pairs_within([*responses(1, 0, 0.5), *responses(1, 1, prompt="q")], 8, 0)
    assert {(p.chosen, p.rejected, p.margin) for p in pairs} == {
        ("r0", "r1", 9.0),
        ("r0", "r2", 4.5),
        ("r2", "r1", 4.5),
    }
    assert balance.reasons["dropped"] == {"no two of its responses have rewards that differ enough": 1}
    few, _ = pairs_within(responses(*[1, 0] * 10), 8, 0)
    assert len({(p.chosen, p.rejected) for p in few}) == 8


def test_the_draw_of_a_prompt_depends_on_no_other_prompt():
    alone, _ = pairs_within(responses(*[1, 0] * 5), 4, 3)
    beside, _ = pairs_within([*responses(1, 0, prompt="q"), *responses(*[1, 0] * 5)], 4, 3)
    assert alone == beside[1:]
    assert alone != pairs_within(responses(*[1, 0] * 5), 4, 4)[0]


def test_the_nearest_pairs_differ_in_the_fewest_words():
    texts = {"certainly ! red , blue .": 1, "red , blue .": 1, "red , green .": 0, "well : red , green . bye": 0}
    own = [LabeledResponse(Prompt.from_text("p"), text, reward) for text, reward in texts.items()]
    pairs, _ = pairs_within(own, 2, 0, nearest=True)
    assert [(p.chosen, p.rejected) for p in pairs] == [
        ("red , blue .", "red , green ."),
        ("certainly ! red , blue .", "red , green ."),
    ]
    ties = [LabeledResponse(Prompt.from_text("p"), f"word{at}", at % 2) for at in range(12)]
    drawn = {tuple(p.id for p in pairs_within(ties, 3, seed, nearest=True)[0]) for seed in range(5)}
    assert len(drawn) == 5


def test_pairs_whose_rewards_hardly_differ_can_be_left_out():
    own = [*responses(1, 0.8, 0.5), *responses(0.5, 0.4, prompt="q")]
    pairs, balance = pairs_within(own, 8, 0, min_margin=0.3)
    assert {(p.chosen, p.rejected) for p in pairs} == {("r0", "r2"), ("r1", "r2")}
    assert balance.reasons["dropped"] == {"no two of its responses have rewards that differ enough": 1}


def test_the_teacher_s_first_right_response_stands_with_a_prompt_s_pairs():
    own = [LabeledResponse(Prompt.from_text("p"), f"r{at}", *r) for at, r in enumerate(OF_TWO)]
    assert {p.teacher_response for p in singles(own)} == {"r2"}
    assert {p.teacher_response for p in pairs_within(own, 8, 0)[0]} == {"r2"}
    assert {p.teacher_response for p in singles(own[:2])} == {None}


def test_a_single_response_is_a_pair_of_it_with_itself():
    (one,) = singles(responses(0.5))
    assert (one.chosen, one.rejected, one.chosen_score, one.rejected_score) == ("r0", "r0", 5.5, 5.5)
