"""Labeling of sampled responses: what is read of a row, the vote, the judge, and what is imitated."""

from dataclasses import dataclass

import pytest
from helpers import HOSTILE, fake, fake_engine

from reward_distiller.config import Annotation, Labels
from reward_distiller.construct.pseudo_rewards import (
    Labeler,
    Query,
    Sample,
    demonstrations,
    hold_votes,
    read_queries,
    sample_teacher,
)
from reward_distiller.construct.scoring import Scoring
from reward_distiller.errors import DataError
from reward_distiller.records import Prompt
from reward_distiller.teacher.prompts import Templates

JUDGED = Labels(judge=fake("judge"))


@dataclass(frozen=True)
class LastWord:
    """The final answer is the last word; a response without letters has none."""

    def extract(self, response):
        words = response.split()
        return words[-1].casefold() if words and words[-1].isalnum() else None

    def same(self, a, b):
        return a == b


FORM = LastWord()


def query(text, **rest):
    return Query(Prompt.from_text(text), {}, **rest)


def samples(asked, *texts):
    return [Sample(asked, number, text, "someone", 1.0) for number, text in enumerate(texts)]


def read(*rows, given=None, columns=None):
    return read_queries("rows.jsonl", list(enumerate(rows, 1)), columns or {}, FORM, given)


# -- queries --------------------------------------------------------------------------------------------


def test_empty_and_duplicate_prompts_are_counted():
    queries, balance = read(
        {"prompt": "one"}, {"prompt": " "}, {"prompt": "one"}, {"prompt": "two", "open_ended": True}
    )
    assert [(q.prompt.messages[0].content, q.open_ended) for q in queries] == [("one", False), ("two", True)]
    assert balance.reasons["dropped"] == {"empty prompt": 1, "duplicate prompt": 1}


@pytest.mark.parametrize(
    ("row", "given", "field"),
    [
        ({"prompt": "p", "open_ended": "yes"}, None, "open_ended"),
        ({"prompt": "p", "open_ended": 1}, None, "open_ended"),
        ({"prompt": "p"}, "consensus", "consensus"),
        ({"prompt": "p", "consensus": "..."}, "consensus", "consensus"),
        ({"prompt": "p", "consensus": ["a"]}, "consensus", "consensus"),
        ({"prompt": 3}, None, "prompt"),
    ],
)
def test_a_row_that_cannot_be_is_named(row, given, field):
    with pytest.raises(DataError) as error:
        read({"prompt": "fine", "consensus": "a"}, row, given=given)
    assert "rows.jsonl" in str(error.value)
    assert "row 2" in str(error.value)
    assert field in str(error.value)


def test_a_given_consensus_is_read_in_the_form_of_answers_and_not_of_open_ended_queries():
    queries, _ = read({"prompt": "p", "gold": "so: YES"}, {"prompt": "q", "open_ended": True}, given="gold")
    assert [q.consensus for q in queries] == ["yes", None]


# -- sampling -------------------------------------------------------------------------------------------


def test_the_teacher_is_sampled_at_the_temperatures_in_turn_and_no_answer_is_bought_twice(tmp_path):
    asked = [query("one"), query("two")]
    with fake_engine(tmp_path, lambda r: f"{r['temperature']} {r['sample']}") as (engine, transport):
        found, balance = sample_teacher(asked, fake(), 5, [0.5, 1.0], engine)
        assert balance.kept == 10
        assert len({(r["messages"][0]["content"], r["temperature"], r["sample"]) for r in transport.asked}) == 10
        again, _ = sample_teacher(asked, fake(), 6, [0.5, 1.0], engine)
        assert len(transport.asked) == 12
    assert [s.number for s in found] == [0, 1, 2, 3, 4] * 2
    assert [s.temperature for s in found[:5]] == [0.5, 1.0, 0.5, 1.0, 0.5]
    assert [s.text for s in again if s.number < 5] == [s.text for s in found]


def test_an_answer_that_cannot_be_used_is_quarantined(tmp_path):
    with fake_engine(tmp_path, lambda r: "" if r["messages"][0]["content"] == "mute" else "yes") as (engine, _):
        found, balance = sample_teacher([query("mute"), query("one")], fake(max_asks=1), 2, [1.0], engine)
    assert len(found) == 2
    assert balance.counts["quarantined"] == 2


# -- the vote -------------------------------------------------------------------------------------------


def test_ties_and_weak_majorities_drop_the_query_and_are_counted():
    clear, tied, weak, mute, free = (query(t) for t in ("clear", "tied", "weak", "mute", "free"))
    free = query("free", open_ended=True)
    taken = [
        *samples(clear, "it is a", "A", "b", "a"),
        *samples(tied, "a", "b", "b", "a"),
        *samples(weak, "a", "a", "b", "c", "d", "e", "...", "?"),
        *samples(mute, "...", "!"),
        *samples(free, "a", "b"),
    ]
    left, votes, balance = hold_votes([clear, tied, weak, mute, free], taken, FORM, 0.3)
    assert [(q.prompt.messages[0].content, q.consensus) for q in left] == [("clear", "a"), ("free", None)]
    assert balance.reasons["dropped"] == {"tie": 1, "below min_consensus": 1, "no answer": 1}
    assert votes[clear.prompt.id].share == 0.75
    assert free.prompt.id not in votes


# -- labels ---------------------------------------------------------------------------------------------


def test_a_verifiable_response_is_right_where_it_agrees_and_one_without_an_answer_is_wrong():
    asked = query("p", consensus="a")
    labeled, balance = Labeler(Labels(), FORM).label(samples(asked, "so A", "b", "..."))
    assert [(each.reward, each.answer) for each in labeled] == [(1.0, "a"), (0.0, "b"), (0.0, None)]
    assert balance.notes == {"without a final answer": 1}


def scoring(engine):
    return Scoring(fake("judge", max_asks=2), Templates(None), engine, Annotation())


def test_the_judge_scores_what_cannot_be_checked_and_what_it_cannot_score_is_lost(tmp_path):
    def answer(request):
        return "7" if "good" in request["messages"][0]["content"] else "I would rather not"

    taken = [
        *samples(query("free", open_ended=True), "good", "bad", f"good {HOSTILE}"),
        *samples(query("p", consensus="a"), "a"),
    ]
    with fake_engine(tmp_path, answer) as (engine, transport):
        labeled, balance = Labeler(JUDGED, FORM, scoring(engine)).label(taken)
        assert len(transport.asked) == 4  # the unusable answer twice; nobody is asked about what can be checked
    assert [(each.sample.text, each.reward) for each in labeled] == [
        ("good", pytest.approx(6 / 9)),
        (f"good {HOSTILE}", pytest.approx(6 / 9)),
        ("a", 1.0),
    ]
    assert balance.counts["quarantined"] == 1
    assert balance.quarantine[0]["answers"] == ("I would rather not",) * 2


def test_a_judge_of_all_reads_no_consensus(tmp_path):
    with fake_engine(tmp_path, lambda r: "10") as (engine, _):
        judge = Labeler(Labels(judge=fake("judge"), judges_all=True), FORM, scoring(engine))
        labeled, _ = judge.label(samples(query("p", consensus="a"), "b"))
    assert labeled[0].reward == 1.0


def test_equal_responses_are_judged_once(tmp_path):
    with fake_engine(tmp_path, lambda r: "4") as (engine, transport):
        labeled, _ = Labeler(JUDGED, FORM, scoring(engine)).label(samples(query("q", open_ended=True), "same", "same"))
        assert len(transport.asked) == 1
    assert [each.reward for each in labeled] == [pytest.approx(1 / 3)] * 2


# -- demonstrations -------------------------------------------------------------------------------------


def test_the_best_distinct_responses_are_imitated_and_queries_without_one_are_counted():
    good, bad = query("good", consensus="a"), query("bad", consensus="z")
    labeled, _ = Labeler(Labels(), FORM).label([*samples(good, "b", "the a", "a", "the a", "an a"), *samples(bad, "a")])
    chosen, balance = demonstrations(labeled, 0.75, 2)
    assert [each.sample.text for each in chosen] == ["the a", "a"]
    assert balance.counts["dropped"] == 1
    everything, _ = demonstrations(labeled, 0.75, None)
    assert [each.sample.text for each in everything] == ["the a", "a", "an a"]
