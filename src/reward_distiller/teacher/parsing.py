"""From a teacher's text to a value, strictly: what does not fit is Unparsable, never guessed.

Answers that hold free text are wrapped in tags. When the data itself holds such a tag, `fresh_mark`
gives a suffix that no text at hand contains, so that a tag in an answer is always the teacher's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from reward_distiller.teacher.questions import Unparsable

T = TypeVar("T")
LOWEST, HIGHEST = 1.0, 10.0  # the scale of appendix D
# What the data of any prompt must not hold with its mark; a template's own further tags are added by `prompts.py`.
TAGS = (
    "question",
    "response_1",
    "response_2",
    "preferred_response",
    "rejected_response",
    "reasoning",
    "edited_response",
    "reviewed_response",
    "rated_response",
    "original_response",
    "rewritten_response",
)
_NUMBER = r"[0-9]{1,2}(?:\.[0-9]{1,4})?"
_ONE = re.compile(rf"({_NUMBER})\.?")
_TWO = re.compile(rf"({_NUMBER})(?:\s*,\s*|\s+)({_NUMBER})\.?")
_SCORED = rf"<answer>\s*({_NUMBER})\s*</answer>"
_TWO_ANSWERS = re.compile(rf"{_SCORED}\s*{_SCORED}")
_VERDICT_LIST = re.compile(r"""\[ *(?:"(?:YES|NO)"|'(?:YES|NO)')(?: *, *(?:"(?:YES|NO)"|'(?:YES|NO)'))* *\]""")
_NUMBERED = re.compile(r"([0-9]{1,3}) *: *([01])")
_LEADS = {"A": 1.0, "B": -1.0, "tie": 0.0, "Tie": 0.0, "TIE": 0.0}  # of the response shown first, which is A


@dataclass(frozen=True)
class Refinement:
    """Prompt D.2's answer: why the response was rejected and how to mend it, and the mended response."""

    diagnosis: str
    response: str


def fresh_mark(texts: Iterable[str], tags: Collection[str] = TAGS) -> str:
    """ "" or "-2", "-3", ...: the first suffix for the tags that occurs in none of the texts."""
    joined = "\n".join(texts).lower()
    number = 1
    while any(f"{tag}{'' if number == 1 else f'-{number}'}>" in joined for tag in tags):
        number += 1
    return "" if number == 1 else f"-{number}"


def parse_pair_scores(text: str) -> tuple[float, float]:
    """Two scores, for the response shown first and second (prompt D.1)."""
    match = _TWO.fullmatch(answer_of(text))
    if not match:
        raise Unparsable("not two scores separated by a space")
    return _on_scale(match[1]), _on_scale(match[2])


def parse_score(text: str) -> float:
    """One score (prompt D.3)."""
    match = _ONE.fullmatch(answer_of(text))
    if not match:
        raise Unparsable("not a single score")
    return _on_scale(match[1])


def parse_response(text: str) -> str:
    """A response in free text; empty is no response."""
    answer = answer_of(text)
    if not answer:
        raise Unparsable("empty response")
    return answer


def parse_refinement(text: str, mark: str = "") -> Refinement:
    """Diagnosis and edited response between their tags, each exactly once, with nothing after the last."""
    reasoning, response = _tagged(text, ("reasoning", "edited_response"), mark)
    if not response:
        raise Unparsable("empty edited response")
    return Refinement(reasoning, response)


def parse_rewriting(text: str, mark: str = "") -> str:
    """A rewritten response between its tags, each exactly once, with nothing after the last."""
    (response,) = _tagged(text, ("rewritten_response",), mark)
    if not response:
        raise Unparsable("empty rewritten response")
    return response


def parse_attribute_scores(text: str, names: Sequence[str]) -> dict[str, float]:
    """One line `name: score` for each of the names, once each and no other; given back in the order of `names`."""
    found: dict[str, float] = {}
    for line in filter(None, map(str.strip, answer_of(text).split("\n"))):
        name, _, score = (part.strip() for part in line.partition(":"))
        match = _ONE.fullmatch(score)
        if name not in names or not match:
            raise Unparsable("a line that is not an attribute and its score")
        if name in found:
            raise Unparsable(f"attribute {name} stands twice")
        found[name] = _on_scale(match[1])
    missing = [name for name in names if name not in found]
    if missing:
        raise Unparsable(f"no score for attribute {missing[0]}")
    return {name: found[name] for name in names}


def parse_ranking(text: str) -> float:
    """The lead of the response shown first, from the word A (1), B (-1) or tie (0)."""
    lead = _LEADS.get(answer_of(text).removesuffix("."))
    if lead is None:
        raise Unparsable("neither A nor B nor tie")
    return lead


def parse_choice(text: str) -> float:
    """The lead of the response shown first, from the letter A (1) or B (-1), as GRAM answers."""
    lead = parse_ranking(text)
    if not lead:
        raise Unparsable("neither A nor B")
    return lead


def parse_answer_blocks(text: str) -> tuple[float, float]:
    """Two scores in an <answer> each, behind at most one block of thoughts, as JudgeLRM answers.

    The chat template may have opened that block, and the server may have cut it off: then only its end is there, or
    nothing of it.
    """
    thoughts, closed, rest = text.partition("</think>")
    if not closed and thoughts.lstrip().startswith("<think>"):
        raise Unparsable("the reasoning block is not closed")
    if "</think>" in rest:
        raise Unparsable("the reasoning block ends twice")
    match = _TWO_ANSWERS.fullmatch((rest if closed else thoughts).strip())
    if not match:
        raise Unparsable("not two scores in answer tags")
    return _on_scale(match[1]), _on_scale(match[2])


def parse_verdict(text: str, read: Callable[[str], T], mark: str = "") -> T:
    """What `read` makes of the verdict that stands behind the reasoning, each between its tags exactly once."""
    _, verdict = _tagged(text, ("reasoning", "verdict"), mark)
    if "<think>" in verdict:
        raise Unparsable("thoughts inside the verdict")
    return read(verdict)


def parse_verdict_list(text: str, count: int) -> list[bool]:
    """`count` times YES or NO, as a list that is the answer's last line; whatever is said before holds no such list."""
    *before, last = answer_of(text).split("\n")
    if not _VERDICT_LIST.fullmatch(last.strip()):
        raise Unparsable("the last line is not a list of YES and NO")
    if any(_VERDICT_LIST.search(line) for line in before):
        raise Unparsable("more than one list of verdicts")
    verdicts = [word == "YES" for word in re.findall("YES|NO", last)]
    if len(verdicts) != count:
        raise Unparsable(f"{len(verdicts)} verdicts, not {count}")
    return verdicts


def parse_numbered_verdicts(text: str, count: int) -> list[bool]:
    """One line `number: 0 or 1` for each number from 1 to `count`, in any order; given back in that of the numbers."""
    found: dict[int, bool] = {}
    for line in filter(None, map(str.strip, answer_of(text).split("\n"))):
        match = _NUMBERED.fullmatch(line)
        if not match or not 1 <= int(match[1]) <= count:
            raise Unparsable("a line that is not a criterion's number and 0 or 1")
        if int(match[1]) in found:
            raise Unparsable(f"criterion {match[1]} stands twice")
        found[int(match[1])] = match[2] == "1"
    missing = [number for number in range(1, count + 1) if number not in found]
    if missing:
        raise Unparsable(f"no verdict on criterion {missing[0]}")
    return [found[number] for number in range(1, count + 1)]


def _tagged(text: str, tags: Sequence[str], mark: str) -> list[str]:
    """What stands between each of the tags: all exactly once, in this order, with nothing between or after them."""
    answer = answer_of(text)
    spans = []
    for tag in tags:
        opening, closing = f"<{tag}{mark}>", f"</{tag}{mark}>"
        if answer.count(opening) != 1 or answer.count(closing) != 1:
            raise Unparsable(f"{opening} and {closing} must each stand exactly once")
        start, end = answer.index(opening), answer.index(closing)
        spans.append((start, start + len(opening), end, end + len(closing)))
    places = [place for span in spans for place in span]
    if places != sorted(places):
        raise Unparsable("the tags are out of order")
    gaps = [answer[a[3] : b[0]] for a, b in pairwise(spans)] + [answer[places[-1] :]]
    if any(gap.strip() for gap in gaps):
        raise Unparsable("text outside the tags")
    return [answer[start:end].strip() for _, start, end, _ in spans]


def answer_of(text: str) -> str:
    """The text without a reasoning model's leading <think> block; an unclosed one means there is no answer."""
    text = text.strip()
    if text.startswith("<think>"):
        _, closed, text = text.partition("</think>")
        if not closed:
            raise Unparsable("the reasoning block is not closed")
    return text.strip()


def _on_scale(number: str) -> float:
    score = float(number)
    if not LOWEST <= score <= HIGHEST:
        raise Unparsable(f"score {number} is outside {LOWEST:g} to {HIGHEST:g}")
    return score
