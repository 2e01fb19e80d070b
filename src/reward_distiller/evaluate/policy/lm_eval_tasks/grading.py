r"""Whether a response answers a question of GSM8K, GSM-Plus or MMLU-Pro, and what it takes to say that none can be.

A question with an answer is graded by `reward_distiller.answers`: no answer is not right, and nothing is drawn for it.
A question without one (GSM-Plus, critical thinking) is answered right by saying so: "cannot be determined", "not enough
information", "the answer is unknown". What is said last counts: after it stands no number as an answer, neither in a
statement ("the answer is 5", `\boxed{5}`, `#### 5`) nor behind an equals sign. That something "is not given" says so
where no number at all follows. Silence is not right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from reward_distiller.answers import AnswerFormat, answer_format
from reward_distiller.answers.protocol import MARKERS, final_part
from reward_distiller.evaluate.policy.lm_eval_tasks.questions import task_named

NO_ANSWER = "cannot be answered"
_FIND = (
    r"(?:determin|calculat|answer|solv|comput|find|found|tell|told|know|say|said|establish|work(?:ed)? out|deduc|infer)"
)
_NONE = r"(?:none|n/?a|unknown|undefined|undetermined|indeterminate|not (?:known|possible|available)|impossible)"
_DECLINES = re.compile(
    rf"\b(?:can ?not|can[’']?t|could not|couldn[’']t|unable to|not able to|no way to|not possible to|impossible to|"
    rf"(?:do|does)(?: not|n[’']t) (?:have enough|allow|let|permit))\b[^.\n]{{0,80}}?\b{_FIND}\w*"
    rf"|\b(?:not enough|insufficient|incomplete|missing|lacks?(?: the)?(?: necessary)?|more) "
    rf"(?:information|data|details|context)\b"
    rf"|\b(?:do not|don[’']t) (?:\w+ )?know\b"
    rf"|\b(?:unanswerable|unsolvable|undeterminable)\b"
    rf"|\banswers?\b[*_]{{0,3}} ?(?:is|:|=)[*_]{{0,3}} ?[\"'“*$(\\a-z{{]{{0,12}}{_NONE}\b"
    rf"|\\boxed\{{(?:\\text(?:bf)?\{{)?\s?{_NONE}\b"
    rf"|####\s?{_NONE}\b",
    re.IGNORECASE,
)
_NOT_GIVEN = re.compile(r"\b(?:is|are|was|were)(?: not|n[’']t) (?:given|provided|specified|stated|mentioned)\b", re.I)
_STATED = re.compile(r"\\boxed|####|\banswers?\b|=", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?=\s|$)|\n")


@dataclass(frozen=True)
class Grade:
    """`answer` is the extracted one, NO_ANSWER where the response says that there is none, or None."""

    answer: str | None
    right: bool


def grader(name: str) -> Callable[[str | None, str], Grade]:
    """How a response is held against the gold answer of a task's question, None where it has none."""
    answers = _answers(name)

    def grade(gold: str | None, response: str) -> Grade:
        found = answers.extract(response)
        if gold is None:
            declined = declines(response)
            return Grade(NO_ANSWER if declined else found, declined)
        return Grade(found, found is not None and answers.same(found, gold))

    return grade


def declines(response: str) -> bool:
    """Whether a response's last word is that the question cannot be answered."""
    text, number = final_part(response), answer_format("number")
    said, missing = _behind(_DECLINES, text), _behind(_NOT_GIVEN, text)
    if missing is not None and number.extract(missing) is None:
        return True
    if said is None:
        return False
    places = [match.start() for match in _STATED.finditer(said)][-MARKERS:]
    return not any(_states_number(number, said[place : place + 200]) for place in places)


def _behind(pattern: re.Pattern[str], text: str) -> str | None:
    """What stands behind the last match."""
    ends = [match.end() for match in pattern.finditer(text)]
    return text[ends[-1] :] if ends else None


def _states_number(number: AnswerFormat, text: str) -> bool:
    return number.extract(_SENTENCE_END.split(text.lstrip("= "), maxsplit=1)[0]) is not None


@cache
def _answers(name: str) -> AnswerFormat:
    task = task_named(name)
    return answer_format(task.answers, **task.options)
