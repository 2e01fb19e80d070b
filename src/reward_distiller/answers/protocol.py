"""What a final answer's format can do, and where in a response a final answer may stand. Knows no kind of answer."""

from __future__ import annotations

import re
from typing import Protocol

TAIL = 20_000  # characters at a response's end that are looked at; what stands before them is no final answer
MARKERS = 20  # "the answer is" and the like that are looked at, from the last on


class AnswerFormat(Protocol):
    """One kind of final answer. Both methods are pure, never raise, and may be called from any thread."""

    def extract(self, response: str) -> str | None:
        """The final answer, normalised: None where there is none, or where it is ambiguous."""

    def same(self, a: str, b: str) -> bool:
        """Whether two extracted answers are equal: reflexive and symmetric, and not always transitive."""


def final_part(response: str) -> str:
    """The end of a response, without a reasoning model's thoughts; nothing where these were never closed."""
    _, closed, rest = response.rpartition("</think>")
    if not closed and response[:TAIL].lstrip().startswith("<think>"):
        return ""
    return (rest if closed else response)[-TAIL:]


_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{")
_BRACE = re.compile(r"\\[{}]|[{}]")


def boxes(text: str) -> tuple[list[tuple[int, int, str]], bool]:
    r"""Every `\boxed{...}` as start, end and content, by start, the nested ones too; and whether the last was cut off.

    Linear in the text, however deep the braces.
    """
    openings = {match.end() - 1: match.start() for match in _BOX.finditer(text)}
    if not openings:
        return [], False
    found, stack = [], []
    for brace in _BRACE.finditer(text, min(openings)):
        if brace[0] == "{":
            stack.append(brace.start())
        elif brace[0] == "}" and stack:
            place = stack.pop()
            if place in openings:
                found.append((openings[place], brace.end(), place))
    found.sort()
    last = found[-1] if found else None
    cut = any(place in openings and (last is None or openings[place] > last[1]) for place in stack)
    # Only the innermost of nested boxes can be the last: contents of the others are never needed whole.
    return [(start, end, text[place + 1 : end - 1][-1000:]) for start, end, place in found[-1:]], cut


def statement_behind(text: str, start: int) -> str:
    """The rest of a marker's line, or the next line that says something."""
    for line in text[start : start + 1000].split("\n"):
        if line.strip(" *_#:$\r\t"):
            return line
    return ""
