"""Letters of multiple-choice tasks, answers by a user's pattern, and the registry."""

import pytest

from reward_distiller.answers import FORMATS, answer_format
from reward_distiller.errors import ConfigError

CHOICE = answer_format("choice")


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("The answer is (C).", "C"),
        ("the answer is (c)", "C"),
        ("answer: C", "C"),
        ("Answer: c", "C"),
        ("**Answer:** **C**", "C"),
        ("Final Answer:\nC. Because", "C"),
        (r"$\boxed{C}$", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        (r"\boxed{A} or rather \boxed{B}", "B"),
        ("So it is\n**C**", "C"),
        ("So it is\n(C)", "C"),
        ("So it is\nC", "C"),
        ("So it is\nC) the third", "C"),
        ("The closest option is (F).", "F"),
        ("The answer is `D. 50 units`.", "D"),
        ("The correct answer is option C", "C"),
        ("Answer： （Ｃ）", "C"),
        ("The answer is (C) because (D) is wrong.", "C"),
        ("The answer is (D).\n\nFinal Answer:", "D"),
        ("The answer is (B). No. The answer is (I).", "I"),
        ("The answer is A.", "A"),
        ("The answer is I", "I"),
        # articles, pronouns, units, lists
        ("The answer is A car", None),
        ("The answer is a question of taste.", None),
        ("The answer is I think unclear", None),
        ("A dog and I", None),
        ("I\nam here and cannot say", None),
        ("(c) first we add", None),
        ("A. is wrong\nB. is wrong\nC. is", None),
        ("(A) is wrong\n(B) means", None),
        ("C. is right\nSo it is\nC. the third", "C"),
        # a heading in the plural is no statement
        ("Let us go through the possible answers:\nA. is too small\nB. is too large\nSo it is (C).", "C"),
        ("We look at the answers:\n\nA. is wrong\nB. is cut", None),
        ("The answer is (C).\n\nThe other answers:\nA. is too small", "C"),
        ("Answers: C", "C"),
        ("The answer is:\nC. the third", "C"),
        # several, or none
        ("The answer is (C) or (D).", None),
        ("The answer is C and D", None),
        ("Answer: A, B", None),
        ("The answer is (C), (C)", "C"),
        ("The answer is not (B).", None),
        ("It is (B) or maybe (C)", None),
        ("The answer is (Z).", None),
        ("The answer is 42", None),
        (r"The answer is (A). \boxed{", None),
        ("<think>The answer is (A).", None),
        ("", None),
    ],
)
def test_the_final_letter_is_found(response, answer):
    assert CHOICE.extract(response) == answer


def test_letters_go_as_far_as_the_options():
    four = answer_format("choice", options=4)
    assert four.extract("The answer is (D)") == "D"
    assert four.extract("The answer is (E)") is None
    assert answer_format("choice", options=26).extract("The answer is (Z)") == "Z"
    assert four.same("A", "A")
    assert not four.same("A", "B")


@pytest.mark.parametrize(
    ("pattern", "response", "answer"),
    [
        (r"city: (.*)", "city: Rome\ncity:  New \t York ", "new york"),
        (r"(?:is|was) (?P<answer>\w+)|(x)", "it was STRASSE", "strasse"),
        (r"city: (.*)", "none", None),
        (r"city:(.*)", "city:  ", None),
        (r"a|(b)", "b then a", None),
    ],
)
def test_a_pattern_finds_its_last_match(pattern, response, answer):
    assert answer_format("pattern", pattern=pattern).extract(response) == answer


@pytest.mark.parametrize("pattern", ["(", "no group", "(two) (groups)", "(?P<other>a)(b)"])
def test_a_pattern_that_cannot_be_used_is_refused(pattern):
    with pytest.raises(ConfigError, match=r"[Mm]end|Put the answer"):
        answer_format("pattern", pattern=pattern)


def test_the_registry_names_its_formats():
    with pytest.raises(ConfigError, match="number, choice, pattern"):
        answer_format("letters")
    with pytest.raises(ConfigError, match="options"):
        answer_format("choice", options=1)
    for wrong in ({"options": 4}, {"pattern": "(a)"}):
        with pytest.raises(ConfigError, match="number"):
            answer_format("number", **wrong)
    assert list(FORMATS) == ["number", "choice", "pattern"]
