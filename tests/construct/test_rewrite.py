"""Rewriting: the teacher's own response against what it made of it; the label is the direction it was given."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from helpers import HOSTILE, fake, fake_engine, labeled

from reward_distiller.construct.pairs import read_pairs, write_pairs
from reward_distiller.construct.reference import add_references, ask_references
from reward_distiller.construct.rewrite import Rewriting, draw_change, rewrite
from reward_distiller.records import Prompt
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.teacher.prompts import Templates

TEMPLATES = Templates()
TEACHER = fake()
ASPECTS = ("honesty", "safety", "depth")


def prompts(count: int) -> list[Prompt]:
    return [Prompt.from_text(f"question {n}") for n in range(count)]


def wrapped(request, text: str) -> str:
    mark = re.search(r"<original_response((-\d+)?)>", request["messages"][0]["content"])[1]
    return f"<rewritten_response{mark}>\n{text}\n</rewritten_response{mark}>"


def original(request) -> str | None:
    """The response that is to be rewritten, or None where this is a plain question."""
    found = re.search(
        r"<original_response((-\d+)?)>\n(.*)\n</original_response\1>", request["messages"][0]["content"], re.DOTALL
    )
    return found and found[3]


def editor(request) -> str:
    response = original(request)
    return wrapped(request, f"{response}, edited") if response else f"answer to {request['messages'][0]['content']}"


def run(engine, subjects, teacher=TEACHER, seed=0, better=0.5):
    own, referenced = ask_references(subjects, teacher, engine)
    responses = [(p, own[p.id]) for p in subjects if p.id in own]
    pairs, rewritten = rewrite(responses, teacher, TEMPLATES, engine, seed, Rewriting(ASPECTS, 2, better))
    return pairs, [referenced, rewritten]


def numbers(balance) -> dict[str, int]:
    return {fate: count for fate, count in balance.as_dict().items() if isinstance(count, int) and count}


def test_the_label_is_the_direction_that_was_asked_for(tmp_path):
    subjects = prompts(40)
    with fake_engine(tmp_path, editor) as (engine, transport):
        pairs, balances = run(engine, subjects)
        asked = len(transport.asked)
        assert run(engine, subjects)[0] == pairs
        assert len(transport.asked) == asked == 80
    assert [p.prompt for p in pairs] == subjects
    texts = {text for text in transport.last_texts if "<original_response" in text}
    for pair in pairs:
        own = f"answer to {pair.prompt.messages[0].content}"
        sides = [f"{own}, edited", own]
        change = pair.provenance
        assert [pair.chosen, pair.rejected] == (sides if change["direction"] == "better" else sides[::-1])
        assert (pair.teacher_response, pair.chosen_score, pair.rejected_score, pair.margin) == (own, None, None, None)
        assert (pair.source, change["teacher"]) == ("rewritten", "teacher")
        first = (
            f"becomes {change['direction']} than it is now, judged by these aspects: {', '.join(change['aspects'])}."
        )
        assert sum(first in text and f"\n{own}\n" in text for text in texts) == 1
    assert [numbers(b) for b in balances] == [{"in": 40, "kept": 40}] * 2
    assert [(b.step, b.unit) for b in balances] == [("reference", "prompts"), ("rewrite", "prompts")]
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl", scored=False) == pairs


def test_a_change_depends_on_its_prompt_and_the_seed_alone():
    changes = {p.id: draw_change(p, 0, Rewriting(ASPECTS, 2, 0.5)) for p in prompts(400)}
    assert 160 < sum(c.direction == "better" for c in changes.values()) < 240
    assert len(Counter(c.aspects for c in changes.values())) == 6  # all ordered pairs of three
    assert changes != {p.id: draw_change(p, 1, Rewriting(ASPECTS, 2, 0.5)) for p in prompts(400)}
    for share, direction in ((0.0, "worse"), (1.0, "better")):
        assert {draw_change(p, 0, Rewriting(ASPECTS, 3, share)).direction for p in prompts(50)} == {direction}


def test_a_share_of_prompts_is_rewritten_as_all_of_them_are(tmp_path):
    with fake_engine(tmp_path, editor) as (engine, _):
        of_prompt = {p.prompt.id: p for p in run(engine, prompts(12))[0]}
        some = prompts(12)[3:9][::-1]
        assert run(engine, some)[0] == [of_prompt[p.id] for p in some]


def test_the_teachers_responses_are_the_ones_that_references_are(tmp_path):
    with fake_engine(tmp_path, editor) as (engine, transport):
        (pair,), _ = add_references([labeled("question 0", "a", "b")], TEACHER, engine)
        (rewritten,), _ = run(engine, prompts(1))
        assert rewritten.teacher_response == pair.teacher_response
        assert len(transport.asked) == 2


def test_what_becomes_no_pair_is_counted(tmp_path):
    def answer(request):
        response, text = original(request), request["messages"][0]["content"]
        if response is None:
            return {"question 1": "", "question 2": Refused("HTTP 400: no")}.get(text, f"answer to {text[-1]}")
        how = {"answer to 3": wrapped(request, response), "answer to 4": "I would rather not"}
        return how.get(response) or editor(request)

    subjects = [*prompts(6), *prompts(1)]
    with fake_engine(tmp_path, answer) as (engine, _):
        pairs, (referenced, rewritten) = run(engine, subjects, fake(max_asks=2))
    assert [p.prompt for p in pairs] == [subjects[0], subjects[5]]
    assert numbers(referenced) == {"in": 7, "kept": 4, "dropped": 1, "quarantined": 1, "failed": 1}
    assert numbers(rewritten) == {"in": 4, "kept": 2, "filtered": 1, "quarantined": 1}
    assert rewritten.as_dict()["reasons"]["filtered"] == {"unchanged": 1}
    assert rewritten.quarantine[0]["record"] == subjects[4].id
    assert rewritten.quarantine[0]["answers"] == ("I would rather not",) * 2


@pytest.mark.parametrize("better", [0.0, 1.0])
def test_a_rewriting_of_hostile_text_comes_back_exactly(tmp_path, better):
    hostile = HOSTILE + "\n</rewritten_response-3>"

    def answer(request):
        return hostile if original(request) is None else wrapped(request, hostile + "!")

    with fake_engine(tmp_path, answer) as (engine, transport):
        (pair,), _ = run(engine, [Prompt.from_text(HOSTILE)], better=better)
    assert {pair.chosen, pair.rejected} == {hostile, hostile + "!"}
    assert pair.teacher_response == (pair.rejected if better else pair.chosen) == hostile
    assert original(transport.asked[-1]) == hostile
