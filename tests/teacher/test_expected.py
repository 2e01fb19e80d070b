"""Expected scores by hand, for every way in which tokenizers and servers spell a grade."""

import json
import math

import pytest

from reward_distiller.teacher.completion import Completion, read_completion
from reward_distiller.teacher.expected import expected_scores


def completion(text, *places):
    """`places` are (token, {alternative: probability}) in order."""
    content = [
        {"token": token, "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.items()]}
        for token, top in places
    ]
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": content}}
    return read_completion(json.dumps({"choices": [choice]}).encode())


def test_the_mean_of_a_single_grade():
    answer = completion("8", ("8", {"8": 0.6, "7": 0.3, "9": 0.1}))
    assert expected_scores(answer, [8.0]) == pytest.approx((0.6 * 8 + 0.3 * 7 + 0.1 * 9,))


def test_two_grades_each_at_its_own_token():
    answer = completion("8 3", ("8", {"8": 0.5, "6": 0.5}), (" ", {" ": 1.0}), ("3", {"3": 0.75, "4": 0.25}))
    assert expected_scores(answer, [8.0, 3.0]) == pytest.approx((7.0, 3.25))


def test_a_grade_with_its_space_is_the_same_grade():
    answer = completion("8 3", ("8", {"8": 1.0}), (" 3", {" 3": 0.5, "3": 0.2, " 5": 0.3}))
    assert expected_scores(answer, [8.0, 3.0]) == pytest.approx((8.0, 0.7 * 3 + 0.3 * 5))


def test_ten_as_one_token():
    answer = completion("10", ("10", {"10": 0.5, "9": 0.3, "1": 0.2}))
    assert expected_scores(answer, [10.0]) == pytest.approx((0.5 * 10 + 0.3 * 9 + 0.2 * 1,))


@pytest.mark.parametrize(("text", "second"), [("10", "0"), ("1.", ".")])
def test_ten_as_two_tokens_is_told_from_one_by_what_follows(text, second):
    answer = completion(text, ("1", {"1": 0.5, "9": 0.5}), (second, {"0": 0.75, ".": 0.25}))
    sampled = float(text.removesuffix("."))
    assert expected_scores(answer, [sampled]) == pytest.approx((0.5 * 9 + 0.375 * 10 + 0.125 * 1,))


def test_a_one_whose_continuation_is_unknown_is_never_taken_for_a_grade():
    assert expected_scores(completion("9", ("9", {"9": 0.95, "1": 0.05})), [9.0]) == pytest.approx((9.0,))
    assert expected_scores(completion("9", ("9", {"9": 0.6, "1": 0.4})), [9.0]) is None
    assert expected_scores(completion("1", ("1", {"1": 1.0})), [1.0]) is None


def test_the_digit_is_taken_from_the_answer_and_not_from_a_rationale():
    thoughts = ("<think>", {"<think>": 1.0}), ("8", {"8": 1.0}), ("</think>", {"</think>": 1.0})
    answer = completion("<think>8</think>3", *thoughts, ("3", {"3": 0.5, "2": 0.5}))
    assert expected_scores(answer, [3.0]) == pytest.approx((2.5,))


def test_reasoning_that_the_server_keeps_apart_may_stand_among_the_tokens():
    answer = completion("3", ("8 of", {"8 of": 1.0}), (" 10\n", {" 10\n": 1.0}), ("3", {"3": 0.5, "4": 0.5}))
    assert expected_scores(answer, [3.0]) == pytest.approx((3.5,))


def test_grades_inside_json():
    places = [('{"', {'{"': 1.0}), ("score_1", {"score_1": 1.0}), ('":', {'":': 1.0}), (" 8", {" 8": 0.5, " 9": 0.5})]
    places.append(("}", {"}": 1.0}))
    assert expected_scores(completion('{"score_1": 8}', *places), [8.0]) == pytest.approx((8.5,))


@pytest.mark.parametrize(
    ("answer", "sampled"),
    [
        (Completion("8", "stop"), [8.0]),
        (completion("8"), [8.0]),
        (completion("8.5", ("8", {"8": 1.0}), (".5", {".5": 1.0})), [8.5]),
        (completion("8", ("8", {"8": 0.5, "good": 0.4})), [8.0]),
        (completion("8", ("9", {"9": 1.0})), [8.0]),
        (completion("8", ("8", {"8": 1.0})), [7.0]),
        (completion("8", ('":8', {'":8': 1.0})), [8.0]),
        (completion("8 3", ("8", {"8": 1.0}), (" 3", {" 3": 1.0})), [8.0]),
        (completion("8", ("8", {"08": 0.5, "11": 0.3, "²": 0.2})), [8.0]),
    ],
    ids=["no tokens", "none", "decimal", "not covered", "other text", "other grade", "inside", "count", "no grades"],
)
def test_what_cannot_be_told_has_no_expectation(answer, sampled):
    assert expected_scores(answer, sampled) is None


@pytest.mark.parametrize(
    "logprobs",
    [7, {"content": 7}, {"content": [{"token": 1}]}, {"content": [{"token": "8", "top_logprobs": [{"token": "8"}]}]}]
    + [{"content": [{"token": "8", "top_logprobs": [{"token": "8", "logprob": p}]}]} for p in ("x", 0.5, None)],
)
def test_a_servers_nonsense_is_no_probability(logprobs):
    choice = {"message": {"content": "8"}, "finish_reason": "stop", "logprobs": logprobs}
    answer = read_completion(json.dumps({"choices": [choice]}).encode())
    assert (answer.text, answer.tokens) == ("8", None)


def test_refusals_and_filtered_answers_are_no_answers():
    for choice in (
        {"message": {"content": None, "refusal": "I will not"}},
        {"message": {"content": "8", "refusal": "I will not"}},
        {"message": {"content": "8"}, "finish_reason": "content_filter"},
    ):
        with pytest.raises(ValueError, match=r"refuses|filter"):
            read_completion(json.dumps({"choices": [choice]}).encode())
