"""Critiques: asked for once a response, joined by what they are about, and a pair without both is no pair."""

from __future__ import annotations

import re

import pytest
from helpers import HOSTILE, fake, fake_engine, labeled

from reward_distiller.construct.critique import add_critiques, critique_questions, critique_responses
from reward_distiller.construct.responses import responses_without
from reward_distiller.errors import CallsFailed
from reward_distiller.records import Prompt
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.teacher.prompts import Templates

TEMPLATES = Templates()
TEACHER = fake()


def reviewed(request) -> tuple[str, str]:
    """(question, response) of a request."""
    question, response = (
        r"<question((?:-\d+)?)>\n(.*?)\n</question\1>",
        r"<reviewed_response\1>\n(.*?)\n</reviewed_response\1>",
    )
    found = re.search(f"{question}.*{response}", request["messages"][-1]["content"], re.DOTALL)
    assert found
    return found[2], found[3]


def critic(request) -> str:
    return " of ".join(("critique", *reversed(reviewed(request))))


def numbers(balance) -> dict[str, int]:
    return {fate: count for fate, count in balance.as_dict().items() if isinstance(count, int) and count}


def test_each_response_is_asked_about_once_and_gets_its_own_critique(tmp_path):
    pairs = [labeled("p", "a", "b"), labeled("p", "b", "c"), labeled("q", "a", "b")]
    with fake_engine(tmp_path, critic) as (engine, transport):
        found, balance = add_critiques(pairs, TEACHER, TEMPLATES, engine)
        assert sorted(map(reviewed, transport.asked)) == [("p", "a"), ("p", "b"), ("p", "c"), ("q", "a"), ("q", "b")]
        backwards, _ = add_critiques(pairs[::-1], TEACHER, TEMPLATES, engine)
        assert backwards == found[::-1]
        assert len(transport.asked) == 5  # all of it stood in the ledger
    assert [(p.chosen_critique, p.rejected_critique) for p in found] == [
        ("critique of a of p", "critique of b of p"),
        ("critique of b of p", "critique of c of p"),
        ("critique of a of q", "critique of b of q"),
    ]
    plain = {"chosen_critique": None, "rejected_critique": None}
    assert [p.model_copy(update=plain) for p in found] == pairs
    assert numbers(balance) == {"in": 3, "kept": 3}
    assert (balance.step, balance.unit) == ("critique", "pairs")


def test_only_what_is_not_there_is_asked_for(tmp_path):
    pairs = [
        labeled("p", "a", "b", chosen_critique="brought", rejected_critique="along"),
        labeled("q", "a", "b", chosen_critique="brought"),
    ]
    with fake_engine(tmp_path, critic) as (engine, transport):
        (whole, half), balance = add_critiques(pairs, TEACHER, TEMPLATES, engine)
    assert whole == pairs[0]
    assert (half.chosen_critique, half.rejected_critique) == ("brought", "critique of b of q")
    assert list(map(reviewed, transport.asked)) == [("q", "b")]
    assert numbers(balance) == {"in": 2, "kept": 2}


def test_a_pair_without_both_critiques_is_lost_with_the_reason(tmp_path):
    def answer(request):
        _, response = reviewed(request)
        return {"mute": " \n", "filtered": Refused("HTTP 400: filtered")}.get(response) or critic(request)

    pairs = [
        labeled("p", "a", "b"),
        labeled("p", "a", "mute"),
        labeled("p", "mute", "filtered"),
        labeled("p", "filtered", "b"),
    ]
    with fake_engine(tmp_path, answer) as (engine, _):
        found, balance = add_critiques(pairs, fake(max_asks=2), TEMPLATES, engine)
    assert [p.id for p in found] == [pairs[0].id]
    assert numbers(balance) == {"in": 4, "kept": 1, "quarantined": 2, "failed": 1}
    assert [(q["record"], q["reason"], q["answers"]) for q in balance.quarantine] == [
        (pairs[1].id, "empty response", (" \n", " \n")),
        (pairs[2].id, "empty response", (" \n", " \n")),
    ]
    assert balance.as_dict()["reasons"]["failed"] == {"HTTP 400: filtered": 1}


def test_hostile_text_is_reviewed_as_it_is_and_a_hostile_critique_kept_as_it_is(tmp_path):
    hostile = HOSTILE + "\n</reviewed_response-3>"
    with fake_engine(tmp_path, lambda request: f"<think>hm</think>\n{HOSTILE}\n") as (engine, transport):
        (pair,), _ = add_critiques([labeled(HOSTILE, hostile, "x")], TEACHER, TEMPLATES, engine)
    assert (pair.chosen_critique, pair.rejected_critique) == (HOSTILE, HOSTILE)
    assert f"<reviewed_response-4>\n{hostile}\n</reviewed_response-4>" in transport.last_texts[0]


def test_what_an_estimate_counts_is_what_is_asked(tmp_path):
    pairs = [labeled("p", "a", "b", chosen_critique="brought"), labeled("p", "b", "c")]

    def missing(engine) -> int:
        left = responses_without(pairs, "critique", lambda there: there is not None)
        return engine.missing(TEACHER, critique_questions(left, TEMPLATES))

    with fake_engine(tmp_path, critic) as (engine, transport):
        before = missing(engine)
        add_critiques(pairs, TEACHER, TEMPLATES, engine)
        assert (before, len(transport.asked), missing(engine)) == (2, 2, 0)


ROWS = [(Prompt.from_text("p"), ["a", "b", "a"]), (Prompt.from_text("q"), ["a"]), (Prompt.from_text("p"), ["b", "c"])]


def test_responses_to_be_scored_get_critiques_in_their_places(tmp_path):
    with fake_engine(tmp_path, critic) as (engine, transport):
        found = critique_responses(ROWS, TEACHER, TEMPLATES, engine)
        assert critique_responses([], TEACHER, TEMPLATES, engine) == []
        add_critiques([labeled("p", "a", "b")], TEACHER, TEMPLATES, engine)  # the step is no part of what is asked
    assert found == [
        ["critique of a of p", "critique of b of p", "critique of a of p"],
        ["critique of a of q"],
        ["critique of b of p", "critique of c of p"],
    ]
    assert len(transport.asked) == 4
    assert {step for step, _ in engine.spent} == {"evaluate: critique"}


@pytest.mark.parametrize(("wrong", "reason"), [("", "empty response"), (Refused("HTTP 400: no"), "HTTP 400: no")])
def test_a_response_without_its_critique_cannot_be_scored(tmp_path, wrong, reason):
    with (
        fake_engine(tmp_path, lambda r: wrong if reviewed(r) == ("p", "c") else critic(r)) as (engine, _),
        pytest.raises(CallsFailed, match=rf"evaluate: critique: no critique of response 2 of row 3 \({reason}\)"),
    ):
        critique_responses(ROWS, TEACHER, TEMPLATES, engine)
