"""Parsers: what does not fit is refused, whatever hostile text is around; what fits comes back unchanged."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from reward_distiller.teacher.parsing import (
    TAGS,
    fresh_mark,
    parse_attribute_scores,
    parse_pair_scores,
    parse_refinement,
    parse_response,
    parse_rewriting,
    parse_score,
)
from reward_distiller.teacher.questions import Unparsable

PIECES = [f"{slash}{tag}{mark}>" for tag in TAGS for slash in ("<", "</") for mark in ("", "-2", "-3")]
ODD = ["<think>", "</think>", "-2>", "\x1b[31m", "{{ x }}", "٣", "７", "\u2028", "10 1", "7"]
hostile = st.lists(st.sampled_from(PIECES + ODD) | st.text(max_size=8), max_size=8).map("".join)
on_scale = st.integers(100, 1000).map(lambda n: n / 100)


def refinement_text(diagnosis: str, response: str, mark: str) -> str:
    return (
        f"<reasoning{mark}>\n{diagnosis}\n</reasoning{mark}>\n<edited_response{mark}>\n{response}\n"
        f"</edited_response{mark}>"
    )


@given(on_scale, on_scale, st.sampled_from([" ", ", ", "\n", "  "]))
def test_two_scores_come_back(first, second, between):
    assert parse_pair_scores(f" {first}{between}{second}.\n") == (first, second)


@given(on_scale)
def test_one_score_comes_back(score):
    assert parse_score(f"{score}") == score
    assert parse_score(f"<think>first 3, then 4</think>\n{score}.") == score


@given(hostile)
@example("٧ ٨")
@example("７ ８")
@example("²")
@example("1e1 2")
@example("<think>8 7")
def test_scores_are_read_from_two_numbers_in_ascii_or_not_at_all(text):
    try:
        scores = parse_pair_scores(text)
    except Unparsable:
        return
    answer = text.strip().rpartition("</think>")[2] if text.strip().startswith("<think>") else text
    assert not re.search(r"[^0-9.,\s]", answer)
    assert len(re.findall(r"[0-9.]*[0-9]", answer)) == 2
    assert all(1 <= score <= 10 for score in scores)


@pytest.mark.parametrize(
    "text",
    ["0 5", "5 11", "10.01 3", "0.99 2", "-5 5", "5", "5 6 7", "56", "8/10 7/10", "nan 5", "", "8 and 7", "5,5,"],
)
def test_no_pair_of_scores(text):
    with pytest.raises(Unparsable):
        parse_pair_scores(text)


@pytest.mark.parametrize("text", ["11", "0", "7 8", "seven", "10.5", "", "٧", "<think>7", "7\n\nbecause"])
def test_no_single_score(text):
    with pytest.raises(Unparsable):
        parse_score(text)


@given(st.lists(hostile, min_size=1, max_size=4))
def test_a_fresh_mark_makes_tags_that_no_text_holds(texts):
    mark = fresh_mark(texts)
    assert re.fullmatch(r"(-[0-9]+)?", mark)
    for text in texts:
        assert not any(f"<{tag}{mark}>" in text or f"</{tag}{mark}>" in text for tag in TAGS)


def test_plain_texts_need_no_mark_and_the_first_free_one_is_taken():
    assert fresh_mark(["nothing here"]) == ""
    assert fresh_mark(["a <Reasoning> b"]) == "-2"
    assert fresh_mark(["<question>", "</question-2> <response_1-3>"]) == "-4"
    assert fresh_mark(["<edited_response-2>"]) == ""


@given(hostile, hostile)
def test_refinements_come_back_whole(diagnosis, response):
    """What the teacher quotes holds the data's tags only; those never carry the fresh mark."""
    assume(response.strip())
    mark = fresh_mark([diagnosis, response])
    refinement = parse_refinement(refinement_text(diagnosis, response, mark), mark)
    assert refinement.diagnosis == diagnosis.strip()
    assert refinement.response == response.strip()
    thought = f"<think>{diagnosis.replace('</think>', '')}</think>"
    assert parse_refinement(thought + refinement_text("d", "r", mark), mark).response == "r"


@given(hostile)
def test_a_refinement_without_the_mark_of_its_question_is_none(text):
    assume("-9>" not in text)
    with pytest.raises(Unparsable):
        parse_refinement(refinement_text(text, text, ""), "-9")


@given(hostile, st.sampled_from(["reasoning", "edited_response"]), st.booleans())
def test_a_tag_that_stands_twice_is_never_resolved_by_a_guess(response, tag, closing):
    forged = f"<{'/' if closing else ''}{tag}>"
    with pytest.raises(Unparsable):
        parse_refinement(refinement_text("why", f"{response} {forged}", ""))


GOOD = refinement_text("why", "better", "")


@pytest.mark.parametrize(
    "text",
    [
        f"{GOOD}\nI hope this helps",
        GOOD.replace("<edited_response>", "and so\n<edited_response>", 1),
        "<edited_response>better</edited_response><reasoning>why</reasoning>",
        "<reasoning>why<edited_response>better</edited_response></reasoning>",
        "</reasoning>why<reasoning><edited_response>better</edited_response>",
        "<reasoning>why</reasoning><edited_response> \n </edited_response>",
        "<reasoning>why</reasoning><edited_response>better",
        "<edited_response>better</edited_response>",
        f"<think>{GOOD}",
        GOOD.upper(),
        "",
    ],
)
def test_no_refinement(text):
    with pytest.raises(Unparsable):
        parse_refinement(text)


def test_text_before_the_first_tag_is_let_through():
    assert parse_refinement(f"Sure!\n{GOOD}").response == "better"


@given(hostile)
def test_a_rewriting_comes_back_whole(response):
    assume(response.strip())
    mark = fresh_mark([response])
    answer = f"<rewritten_response{mark}>\n{response}\n</rewritten_response{mark}>"
    assert parse_rewriting(answer, mark) == response.strip()
    assert parse_rewriting(f"<think>hm</think>Here it is:\n{answer}\n", mark) == response.strip()


@pytest.mark.parametrize(
    "text",
    [
        "better",
        "",
        "<rewritten_response>better",
        "better</rewritten_response>",
        "</rewritten_response>better<rewritten_response>",
        "<rewritten_response> \n </rewritten_response>",
        "<rewritten_response>better</rewritten_response> I hope this helps",
        "<rewritten_response>a</rewritten_response><rewritten_response>b</rewritten_response>",
        "<rewritten_response-2>better</rewritten_response-2>",
        "<edited_response>better</edited_response>",
        "<think><rewritten_response>better</rewritten_response>",
    ],
)
def test_no_rewriting(text):
    with pytest.raises(Unparsable):
        parse_rewriting(text)


def test_attribute_scores_come_back_in_the_order_of_the_names():
    names = ("honesty", "verbosity", "depth")
    answer = "<think>9?</think>\nverbosity: 10\r\nhonesty : 2.5\n\n  depth:1.\n"
    assert list(parse_attribute_scores(answer, names).items()) == [("honesty", 2.5), ("verbosity", 10), ("depth", 1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "honesty: 5",
        "honesty: 5\nverbosity: 11",
        "honesty: 5\nverbosity: 0",
        "honesty: 5\nverbosity: 5/10",
        "honesty: 5\nverbosity: ٧",
        "honesty: 5\nverbosity: high",
        "honesty: 5\nverbosity:",
        "honesty: 5\nverbosity 5",
        "honesty: 5\nverbosity: 5\nhonesty: 5",
        "honesty: 5\nverbosity: 5\ndepth: 5",
        "honesty: 5\nverbosity: 5\nI hope this helps",
        "Here they are:\nhonesty: 5\nverbosity: 5",
        "Honesty: 5\nVerbosity: 5",
        "- honesty: 5\n- verbosity: 5",
        "honesty: 5, verbosity: 5",
        "honesty: 5\u2028verbosity: 5",
        "<think>honesty: 5\nverbosity: 5",
    ],
)
def test_no_attribute_scores(text):
    with pytest.raises(Unparsable):
        parse_attribute_scores(text, ("honesty", "verbosity"))


@given(hostile)
def test_a_response_is_the_text_after_the_thoughts(text):
    assume(text.strip() and not text.strip().startswith("<think>"))
    assert parse_response(text) == text.strip()
    assert parse_response(f"<think>hm</think>{text}") == text.strip()


@pytest.mark.parametrize("text", ["", " \n", "<think>only thoughts</think> ", "<think>never ends"])
def test_no_response(text):
    with pytest.raises(Unparsable):
        parse_response(text)


def attributes(text: str) -> dict[str, float]:
    return parse_attribute_scores(text, ("honesty", "verbosity"))


def test_a_megabyte_of_one_character_is_refused_at_once():
    for parse in (parse_pair_scores, parse_score, parse_refinement, parse_rewriting, attributes):
        for character in "7 <":
            with pytest.raises(Unparsable):
                parse(character * 1_000_000 + "x")


def test_thoughts_that_never_end_are_told_as_such():
    for parse in (parse_pair_scores, parse_score, parse_refinement, parse_response, parse_rewriting, attributes):
        with pytest.raises(Unparsable, match="not closed"):
            parse("<think>7 8")
