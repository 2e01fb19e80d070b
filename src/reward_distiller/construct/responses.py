"""One question about each distinct response of some pairs, and its answer as a field of the pairs.

What stands with a response alone (a critique, scores by attribute) is asked for once however many pairs hold
the response. Knows neither the question nor the field's meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, TypeVar

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.records import Pair, Prompt, content_id
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.questions import Answer, Question

T = TypeVar("T")
SIDES: tuple[Literal["chosen", "rejected"], ...] = ("chosen", "rejected")
# (identity, prompt, response) -> the question
Ask = Callable[[str, Prompt, str], Question[T]]


def response_id(prompt: Prompt, response: str) -> str:
    return content_id([prompt.id, response])


def questions_about(responses: Iterable[tuple[Prompt, str]], ask: Ask[T]) -> list[Question[T]]:
    """A question about each distinct response, under its `response_id`."""
    distinct = {response_id(prompt, text): (prompt, text) for prompt, text in responses}
    return [ask(identity, prompt, text) for identity, (prompt, text) in distinct.items()]


def responses_without(
    pairs: Iterable[Pair], field: str, complete: Callable[[T | None], bool]
) -> Iterator[tuple[Prompt, str]]:
    """The responses of pairs whose `chosen_FIELD` or `rejected_FIELD` is not complete."""
    for pair in pairs:
        for side in SIDES:
            if not complete(getattr(pair, f"{side}_{field}")):
                yield pair.prompt, getattr(pair, side)


def add_to_both(
    pairs: Sequence[Pair],
    field: str,
    step: str,
    ask: Ask[T],
    teacher: ChatModel,
    engine: Engine,
    complete: Callable[[T | None], bool],
    merge: Callable[[T | None, T], T],
) -> tuple[list[Pair], Balance]:
    """Pairs with `chosen_FIELD` and `rejected_FIELD` filled in; one without both is lost for the reason of the first.

    `complete` says whether a value that is there needs no asking; `merge` joins it with the answer where it does.
    """
    questions = questions_about(responses_without(pairs, field, complete), ask)
    outcomes = engine.ask(teacher, step, questions)
    kept = []
    balance = Balance(step, "pairs", len(pairs))
    for pair in pairs:
        update = {}
        for side in SIDES:
            name = f"{side}_{field}"
            there = getattr(pair, name)
            if complete(there):
                continue
            outcome = outcomes[response_id(pair.prompt, getattr(pair, side))]
            if not isinstance(outcome, Answer):
                balance.lose_to(outcome, pair.id, teacher.model)
                break
            update[name] = merge(there, outcome.value)
        else:
            kept.append(pair.model_copy(update=update))
            balance.keep()
    return kept, balance.check()
