"""Contrastive Refinement: diagnosis, then a minimal edit of the rejected response (paper, section 3.2, prompt D.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.records import Pair
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.parsing import Refinement, parse_refinement
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.structured import REFINEMENT, read_refinement


@dataclass(frozen=True)
class Refined:
    """A refined response y_w* with the dialogue that made it, the context of Self-Calibrated Scoring."""

    pair: Pair  # the pair whose rejected response was edited
    response: str
    diagnosis: str
    dialogue: tuple[dict[str, str], ...]


def refinement_question(pair: Pair, teacher: ChatModel, templates: Templates) -> Question[Refinement]:
    assert pair.teacher_response is not None
    text, mark = templates.render("refinement", pair.prompt, preferred=pair.teacher_response, rejected=pair.rejected)
    messages = [{"role": "user", "content": text}]
    if teacher.structured:
        return Question(pair.id, templates.with_form(messages, REFINEMENT), read_refinement, REFINEMENT.request)
    return Question(pair.id, messages, partial(parse_refinement, mark=mark))


def refine(
    pairs: Sequence[Pair], teacher: ChatModel, templates: Templates, engine: Engine
) -> tuple[list[Refined], Balance]:
    questions = [refinement_question(p, teacher, templates) for p in pairs if p.teacher_response is not None]
    outcomes = engine.ask(teacher, "refine", questions)
    context = {q.id: q.messages for q in questions}
    refined = []
    balance = Balance("refine", "pairs", len(pairs))
    for pair in pairs:
        if pair.teacher_response is None:
            balance.lose("dropped", "no teacher response to compare with", pair.id)
            continue
        outcome = outcomes[pair.id]
        if not isinstance(outcome, Answer):
            balance.lose_to(outcome, pair.id, teacher.model)
            continue
        dialogue = (*context[pair.id], {"role": "assistant", "content": outcome.text})
        refined.append(Refined(pair, outcome.value.response, outcome.value.diagnosis, dialogue))
        balance.keep()
    return refined, balance.check()
