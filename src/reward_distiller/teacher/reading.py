"""A question's request and its key, and what a raw body says to the question: an answer, or why it is none.

However answers are bought, they are asked for and read here. Knows no endpoints and no ledger file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from reward_distiller.config import ChatModel
from reward_distiller.records import canonical_json
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.ledger import key_of_text
from reward_distiller.teacher.questions import Answer, Question

T = TypeVar("T")


class Asked(NamedTuple):
    """A request, as it is and as canonical JSON, and its key in the ledger."""

    request: dict[str, Any]
    text: str
    key: str


@dataclass(frozen=True)
class Unusable:
    """A body that is no answer: its text as far as there is one, why, and whether another sample would be no better."""

    text: str
    reason: str
    final: bool = False


def ask_for(model: ChatModel, question: Question[Any], number: int) -> Asked:
    """What is asked of the model for the answer of that number (from 0) to a question."""
    request = build_request(model, question.messages, question.first_sample + number, question.extra)
    text = canonical_json(request)
    return Asked(request, text, key_of_text(text))


def read_answer(model: ChatModel, question: Question[T], body: bytes) -> Answer[T] | Unusable:
    text = body.decode("utf-8", "replace")
    try:
        completion = read_completion(body)
        text = completion.text
        if completion.finish_reason == "length" and not question.reads_cut:  # asked again, it would end there too
            reason = f"truncated at {model.sampling.max_tokens} tokens; raise sampling.max_tokens"
            return Unusable(text, reason, final=True)
        return Answer(question.read(completion), text)
    except ValueError as error:
        return Unusable(text, str(error))
