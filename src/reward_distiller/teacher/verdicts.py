"""Kinds of judgement on a policy's response: how each is asked for, and how strictly its answer is read.

A kind is a template in `templates/` and a parser that gives one verdict from 0 to 1 for each thing asked, or raises
Unparsable. Knows no benchmarks, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from reward_distiller.records import Prompt
from reward_distiller.teacher.completion import Completion
from reward_distiller.teacher.expected import TOP, letter_chance
from reward_distiller.teacher.parsing import parse_choice, parse_numbered_verdicts, parse_verdict_list
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Question

Verdicts = tuple[float, ...]


@dataclass(frozen=True)
class Kind:
    """`parse` gets an answer's text, how many verdicts it must hold, and the mark of its prompt's tags.

    `weigh` makes of verdicts and the whole completion those that count; `extra` are fields that a request needs for it.
    """

    template: str
    parse: Callable[[str, int, str], Verdicts]
    weigh: Callable[[Verdicts, Completion], Verdicts] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def question(
        self,
        identity: str,
        prompt: Prompt,
        values: Mapping[str, str],
        count: int,
        templates: Templates,
        probabilities: bool = True,
    ) -> Question[Verdicts]:
        """One question about a response. Without `probabilities` the answer's text alone is read."""
        text, mark = templates.render(self.template, prompt, **values)
        messages = [{"role": "user", "content": text}]
        read = partial(_read, parse=self.parse, count=count, mark=mark)
        if not probabilities:
            return Question(identity, messages, read)
        return Question(identity, messages, read, extra=self.extra, weigh=self.weigh)


def _read(text: str, parse: Callable[[str, int, str], Verdicts], count: int, mark: str) -> Verdicts:
    return parse(text, count, mark)


def _preferred(text: str, count: int, mark: str) -> Verdicts:
    """1 where the letter is A, 0 where it is B."""
    return (float(parse_choice(text) > 0),)


def _chance(verdicts: Verdicts, completion: Completion) -> Verdicts:
    """The probability of A instead of the letter, where the server told it."""
    chance = letter_chance(completion, "A", "B")
    return verdicts if chance is None else (chance,)


def _listed(text: str, count: int, mark: str) -> Verdicts:
    """1 where it says YES, for each constraint that was added, in their order."""
    return tuple(map(float, parse_verdict_list(text, count)))


def _numbered(text: str, count: int, mark: str) -> Verdicts:
    """1 where a criterion is satisfied, in the order of their numbers."""
    return tuple(map(float, parse_numbered_verdicts(text, count)))


KINDS: dict[str, Kind] = {
    "preference": Kind("judge_preference", _preferred, _chance, {"logprobs": True, "top_logprobs": TOP}),
    "added_constraints": Kind("judge_added_constraints", _listed),
    "criteria": Kind("judge_criteria", _numbered),
}
