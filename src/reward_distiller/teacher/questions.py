"""What is asked of a chat model and what comes of it: questions, answers, and why a text is none.

Knows no endpoints, no ledger and no prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from reward_distiller.teacher.completion import Completion

T = TypeVar("T")
Messages = Sequence[dict[str, str]]


class Unparsable(ValueError):
    """A parser's verdict: this text is not an answer to what was asked. The message says why."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """`parse` turns the answer's text into a value or raises Unparsable.

    `extra` are fields that the request needs beside the model's own. `weigh` makes of a parsed value and the whole
    completion, with its tokens' probabilities, the value that counts. `first_sample` tells several askings of the same
    messages apart: each has `max_asks` samples from there on. `reads_cut` where an answer that ends at max_tokens is
    one: what matters is beside its text.
    """

    id: str
    messages: Messages
    parse: Callable[[str], T]
    extra: Mapping[str, Any] = field(default_factory=dict)
    weigh: Callable[[T, Completion], T] | None = None
    first_sample: int = 0
    reads_cut: bool = False

    def read(self, completion: Completion) -> T:
        """The value of an answer. Raises Unparsable."""
        value = self.parse(completion.text)
        return self.weigh(value, completion) if self.weigh else value


@dataclass(frozen=True)
class Answer(Generic[T]):
    value: T
    text: str
