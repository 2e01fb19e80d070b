"""The vote: groups by sameness, ties, shares; the order of the samples plays no part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_distiller.answers import Vote, answer_format, vote
from reward_distiller.errors import ConfigError


def equal(a: str, b: str) -> bool:
    return a == b


@pytest.mark.parametrize(
    ("answers", "min_consensus", "wanted"),
    [
        ([], 0.0, Vote(None, 0.0, 0, 0, "no answer")),
        ([None, None], 0.5, Vote(None, 0.0, 0, 0, "no answer")),
        (["a", "a", "b"], 0.0, Vote("a", 2 / 3, 2, 3, None)),
        (["a", "b"], 0.0, Vote(None, 0.5, 1, 2, "tie")),
        (["a", "a", "b", "b", "c"], 0.0, Vote(None, 0.4, 2, 5, "tie")),
        (["a", None, None, None], 0.5, Vote(None, 0.25, 1, 1, "below min_consensus")),
        (["a", "a", None, None], 0.5, Vote("a", 0.5, 2, 2, None)),
        (["a"], 1.0, Vote("a", 1.0, 1, 1, None)),
    ],
)
def test_a_vote_is_won_tied_or_too_small(answers, min_consensus, wanted):
    assert vote(answers, equal, min_consensus) == wanted


def test_answers_that_are_the_same_vote_together():
    number = answer_format("number")
    answers = [number.extract(rf"\boxed{{{x}}}") for x in (r"\sqrt{8}", r"2\sqrt{2}", "3", r"2\sqrt{2}")]
    assert vote(answers, number.same, 0.0) == Vote(r"2\sqrt{2}", 0.75, 3, 4, None)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_min_consensus_is_a_share(share):
    with pytest.raises(ConfigError, match="min_consensus"):
        vote(["a"], equal, share)


def near(a: str, b: str) -> bool:
    """Reflexive and symmetric, and not transitive."""
    return abs(int(a) - int(b)) <= 1


SAMPLES = st.lists(st.one_of(st.none(), st.integers(0, 6).map(str)), max_size=12)


@given(
    SAMPLES.flatmap(lambda answers: st.tuples(st.just(answers), st.permutations(answers))),
    st.sampled_from([0, 0.3, 0.6]),
)
def test_the_order_of_the_samples_plays_no_part(both, share):
    answers, shuffled = both
    for same in (equal, near):
        assert vote(answers, same, share) == vote(shuffled, same, share)


@given(SAMPLES)
def test_a_winner_has_more_votes_than_any_other(answers):
    outcome = vote(answers, equal, 0.0)
    assert outcome.counted == sum(answer is not None for answer in answers)
    if outcome.answer is not None:
        assert outcome.votes == answers.count(outcome.answer) == max(map(answers.count, set(answers) - {None}))
        assert outcome.share == outcome.votes / len(answers)
