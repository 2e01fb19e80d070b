"""Labels by vote, and who is picked, in the comparison of the vote with a reward model. Nothing is trained."""

from __future__ import annotations

import math

import pytest

from bench.vote_against_reward_model import (
    Judged,
    Question,
    Sample,
    agreement,
    labeled,
    mean_rewards,
    parts,
    ranks_right,
)
from reward_distiller.answers import answer_format

NUMBER = answer_format("number")
TRUST = {"a": 0.9, "b": 0.5, "c": 0.2, "d": 0.1}
LIKED = dict.fromkeys(TRUST, 0.0)


def question(*answers: str | None, gold: str = "1", key: str = "q") -> Question:
    samples = [
        Sample(model, f"{key} {model} " + "x" * at, answer, answer == gold)
        for at, (model, answer) in enumerate(zip(TRUST, answers, strict=False))
    ]
    return Question(key, f"prompt of {key}", tuple(samples), NUMBER)


def test_parts_are_disjoint_and_whole_and_follow_the_seed():
    every = [question("1", key=str(number)) for number in range(10)]
    cut = parts(every, 3, 0)
    assert [len(part) for part in cut] == [4, 3, 3]
    assert {q.key for part in cut for q in part} == {q.key for q in every}
    assert [q.key for q in cut[0]] == [q.key for q in parts(every, 3, 0)[0]] != [q.key for q in parts(every, 3, 1)[0]]


def test_labels_are_the_votes_and_never_golds():
    for gold in ("1", "2", "nonsense"):
        rows = labeled([question("2", "2", "1", None, gold=gold), question("1", "2", key="tie", gold=gold)])
        assert [row["reward"] for row in rows] == [1.0, 1.0, 0.0, 0.0]
        assert [row["sampler"] for row in rows] == list(TRUST)
    assert agreement([question("2", "2", "1", None), question("1", "2")]) == {"a": 1, "b": 1, "c": 0, "d": 0}


def test_each_rule_picks_what_it_says():
    found = Judged(question("2", "2", "1", "1"), [0.0, -9.0, 5.0, 3.0], TRUST, LIKED).accuracies()
    assert found["single response"] == 0.5
    assert found["vote"] == 0.5  # a tie is drawn by chance
    assert found["best of N"] == found["vote, weighted by the reward model"] == 1
    assert found["vote, ties broken by the reward model"] == found["longest"] == 1
    assert found["best author by votes"] == found["vote, ties broken by authors"] == found["shortest"] == 0
    assert found["oracle"] == 1


def test_a_tie_is_broken_among_first_places_alone():
    judged = Judged(question("2", "1", "3", None), [0.0, 1.0, 9.0, 9.0], TRUST, LIKED)
    assert judged.accuracies()["vote, ties broken by the reward model"] == 0
    assert judged.is_tie
    assert not Judged(question("2", "3", None, None), [0.0] * 4, TRUST, LIKED).is_tie
    clear = Judged(question("2", "2", "1", None), [0.0, 0.0, 50.0, 0.0], TRUST, LIKED).accuracies()
    assert clear["vote, ties broken by the reward model"] == 0
    assert clear["vote, weighted by the reward model"] == 0.5  # σ is at most 1, and two halves are as much


def test_nobody_has_an_answer_and_nothing_can_be_read():
    found = Judged(question(None, None), [-math.inf, -math.inf], TRUST, LIKED).accuracies()
    assert set(found.values()) == {0.0}


def test_rewards_that_know_the_author_alone_rank_nothing_within_one():
    """An author that is right more often gets more, whatever it writes."""
    rewards = [4.0, 3.0, 2.0, 1.0]
    questions = [question(*row) for row in ("1122", "1212", "2112")]
    liked = mean_rewards(questions, [rewards] * 3)
    assert liked == dict(zip(TRUST, rewards, strict=True))
    judged = [Judged(q, rewards, TRUST, liked) for q in questions]
    assert ranks_right(judged) == pytest.approx((4 + 3 + 2) / 12)
    assert ranks_right(judged, same_author=True) == ranks_right(judged, apart=True) == 0.5
    assert judged[0].accuracies()["best of N, author's mean taken off"] == 0.5
    perfect = [Judged(q, [float(s.right) for s in q.samples], TRUST, LIKED) for q in questions]
    assert ranks_right(perfect, same_author=True) == ranks_right(perfect) == 1


def test_what_cannot_be_read_is_in_no_mean():
    assert mean_rewards([question("1", "1")] * 2, [[1.0, -math.inf], [2.0, -math.inf]]) == {"a": 1.5, "b": 0.0}
