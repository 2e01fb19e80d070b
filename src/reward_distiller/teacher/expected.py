"""Expected scores: the mean of the scores that a teacher might have given, weighted by their probabilities.

One sampled grade throws away how sure the teacher was; the probabilities of the grade's token keep it (G-Eval: Liu et
al., 2023). They are read at the grades of the answer itself, never inside a rationale. Grades are whole numbers from 1
to 10; where "10" is two tokens, what follows "1" decides between 1 and 10. A verdict of one letter keeps as much in the
letter's token. Knows no prompts.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from reward_distiller.teacher.completion import Completion, Token

TOP = 20  # alternatives asked for: OpenAI's most, and twice the grades that there are
COVERED = 0.9  # of the probability must lie on grades: a mean over less would be of something else
_NUMBER = re.compile(r"(?<![\w.])[0-9]+(?:\.[0-9]+)?(?!\w|\.\w)")  # "score_1" holds none


def expected_scores(completion: Completion, sampled: Sequence[float]) -> tuple[float, ...] | None:
    """The expectation of each of the grades that a parser found, in the order in which they stand.

    None where it cannot be told: no log-probabilities, tokens that do not spell the answer, a grade that is no whole
    number, too little probability on grades.
    """
    tokens = completion.tokens
    if not tokens:
        return None
    answer = completion.text.rpartition("</think>")[2].strip()
    spelled = "".join(token.text for token in tokens)
    start = spelled.rfind(answer)
    numbers = list(_NUMBER.finditer(answer))
    if start < 0 or [float(n.group()) for n in numbers] != list(sampled):
        return None
    found = []
    for number in numbers:
        grades = _grades(tokens, start + number.start(), number.group())
        covered = math.fsum(grades.values())
        if covered < COVERED:
            return None
        found.append(math.fsum(grade * mass for grade, mass in grades.items()) / covered)
    return tuple(found)


def letter_chance(completion: Completion, letter: str, other: str) -> float | None:
    """P(letter) / (P(letter) + P(other)) at the token that is the whole answer but for space and a full stop.

    None where it cannot be told: no log-probabilities, tokens that do not spell the answer or split it, neither letter
    among the most probable ones.
    """
    tokens = completion.tokens
    if not tokens:
        return None
    answer = completion.text.rpartition("</think>")[2].strip()
    spelled = "".join(token.text for token in tokens)
    start = spelled.rfind(answer)
    if start < 0 or answer.removesuffix(".") not in (letter, other):
        return None
    end = 0
    for token in tokens:
        end += len(token.text)
        if end > start:
            break
    if token.text.strip().removesuffix(".") not in (letter, other):
        return None
    mass: dict[str, float] = defaultdict(float)
    for text, logprob in token.top:
        mass[text.strip().removesuffix(".")] += math.exp(logprob)
    both = mass[letter] + mass[other]
    return mass[letter] / both if both > 0 else None


def _grades(tokens: Sequence[Token], at: int, number: str) -> Mapping[int, float]:
    """Grade -> probability at the token where the number begins, which is at character `at`; empty if not known."""
    index, begin = 0, 0
    while begin + len(tokens[index].text) <= at:
        begin += len(tokens[index].text)
        index += 1
    before, digits = tokens[index].text[: at - begin], tokens[index].text[at - begin :]
    if before.strip() or not number.startswith(digits) or not number.isdigit():
        return {}
    mass: dict[str, float] = defaultdict(float)
    for text, logprob in tokens[index].top:
        mass[text.strip()] += math.exp(logprob)
    grades = {
        int(text): p for text, p in mass.items() if text.isdecimal() and text.isascii() and text == str(int(text))
    }
    grades = {grade: p for grade, p in grades.items() if 1 <= grade <= 10}
    if 1 in grades and 10 not in grades:  # "10" may be two tokens, "1" and "0"
        if digits != "1":
            del grades[1]  # which of both it would have become was not asked; it counts as not covered
        elif index + 1 < len(tokens):
            zero = math.fsum(math.exp(logprob) for text, logprob in tokens[index + 1].top if text == "0")
            grades[10] = grades[1] * zero
            grades[1] *= 1 - zero
        else:
            return {}  # the answer's end was not among the tokens: nothing says how probable a 0 was
    return grades
