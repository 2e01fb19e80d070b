"""The teacher's own response y_T to each prompt: what refinement and regularization stand on (paper, 3.2 and 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.construct.candidates import candidate_questions
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.questions import Answer


def ask_references(
    prompts: Sequence[Prompt], teacher: ChatModel, engine: Engine, fields: Mapping[str, Any] | None = None
) -> tuple[dict[str, str], Balance]:
    """The teacher's response to each prompt, by prompt id. `fields` are further ones of the requests."""
    distinct: dict[str, Prompt] = {}
    balance = Balance("reference", "prompts", len(prompts))
    for prompt in prompts:
        if prompt.id in distinct:
            balance.lose("dropped", "duplicate prompt", prompt.id)
        distinct[prompt.id] = prompt
    outcomes = engine.ask(teacher, "reference", candidate_questions(list(distinct.values()), fields))
    found: dict[str, str] = {}
    for identity in distinct:
        outcome = outcomes[identity]
        if isinstance(outcome, Answer):
            found[identity] = outcome.value
            balance.keep()
        else:
            balance.lose_to(outcome, identity, teacher.model)
    return found, balance.check()


def add_references(
    pairs: Sequence[Pair], teacher: ChatModel, engine: Engine, fields: Mapping[str, Any] | None = None
) -> tuple[list[Pair], Balance]:
    """Ask for a response to each prompt that has a pair without one. A pair stays when none comes."""
    prompts = {p.prompt.id: p.prompt for p in pairs if p.teacher_response is None}
    found, balance = ask_references(list(prompts.values()), teacher, engine, fields)
    completed = [
        p if p.teacher_response is not None else p.model_copy(update={"teacher_response": found.get(p.prompt.id)})
        for p in pairs
    ]
    return completed, balance
