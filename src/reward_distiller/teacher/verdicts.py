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
        self, identity: str, prompt: Prompt, values: Mapping[str, str], count: int, templates: Templates
    ) -> Question[Verdicts]:
        text, mark = templates.render(self.template, prompt, **values)
        read = partial(_read, parse=self.parse, count=count, mark=mark)
        return Question(identity, [{"role": "user", "content": text}], read, extra=self.extra, weigh=self.weigh)


def _read(text: str, parse: Callable[[str, int, str], Verdicts], count: int, mark: str) -> Verdicts:
    return parse(text, count, mark)


KINDS: dict[str, Kind] = {}
