"""Initial candidate generation and the draw of two distinct responses (paper, section 3.1)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.records import Prompt, Response
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.parsing import parse_response
from reward_distiller.teacher.questions import Answer, Question


def candidate_questions(prompts: Sequence[Prompt], fields: Mapping[str, Any] | None = None) -> list[Question[str]]:
    """`fields` are further ones of the requests."""
    return [Question(p.id, p.as_dicts(), parse_response, fields or {}) for p in prompts]


def collect_candidates(
    prompts: Sequence[Prompt], candidates: Sequence[ChatModel], engine: Engine
) -> tuple[dict[str, list[Response]], Balance]:
    """Ask each of the K candidates for a response to each prompt; give the responses by prompt id."""
    pool: dict[str, list[Response]] = {p.id: [] for p in prompts}
    balance = Balance("candidates", "responses", len(prompts) * len(candidates))
    for model in candidates:
        outcomes = engine.ask(model, "candidates", candidate_questions(prompts))
        for prompt in prompts:
            outcome = outcomes[prompt.id]
            if isinstance(outcome, Answer):
                pool[prompt.id].append(Response(prompt_id=prompt.id, model=model.model, text=outcome.value))
                balance.keep()
            else:
                balance.lose_to(outcome, prompt.id, model.model)
    return pool, balance.check()


def draw_two(
    prompts: Sequence[Prompt], pool: dict[str, list[Response]], seed: int
) -> tuple[list[tuple[Prompt, Response, Response]], Balance]:
    """Two responses of different text, drawn at random and in random order.

    The draw depends on the seed and the prompt alone, so adding a prompt changes no other one's.
    """
    drawn = []
    balance = Balance("draw", "prompts", len(prompts))
    for prompt in prompts:
        distinct = list({r.text: r for r in reversed(pool[prompt.id])}.values())[::-1]
        if len(distinct) < 2:
            balance.lose("dropped", "fewer than two distinct responses", prompt.id)
            continue
        first, second = random.Random(f"draw:{seed}:{prompt.id}").sample(distinct, 2)
        drawn.append((prompt, first, second))
        balance.keep()
    return drawn, balance.check()
