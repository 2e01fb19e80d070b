"""RMBoost's rewriting: the teacher makes its own response better or worse in given aspects (paper, A.3, prompt D.5).

The label comes from the direction that the teacher was given: nobody scores these pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.parsing import parse_rewriting
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question


@dataclass(frozen=True)
class Rewriting:
    """How responses are rewritten: aspects to draw from, how many of them, and the share made better."""

    aspects: tuple[str, ...]
    aspects_per_pair: int
    better: float


@dataclass(frozen=True)
class Change:
    """What a rewriting is to do to a response."""

    direction: Literal["better", "worse"]
    aspects: tuple[str, ...]


def draw_change(prompt: Prompt, seed: int, how: Rewriting) -> Change:
    """A direction and so many distinct aspects: the seed and the prompt alone decide which."""
    rng = random.Random(f"rewrite:{seed}:{prompt.id}")
    direction: Literal["better", "worse"] = "better" if rng.random() < how.better else "worse"
    return Change(direction, tuple(rng.sample(how.aspects, how.aspects_per_pair)))


def rewriting_question(prompt: Prompt, response: str, change: Change, templates: Templates) -> Question[str]:
    """Prompt D.5, with the direction and the aspects drawn by us rather than picked by the teacher."""
    text, mark = templates.render(
        "rewrite", prompt, response=response, direction=change.direction, aspects=", ".join(change.aspects)
    )

    def parse(answer: str) -> str:
        return parse_rewriting(answer, mark)

    return Question(prompt.id, [{"role": "user", "content": text}], parse)


def rewrite(
    responses: Sequence[tuple[Prompt, str]],
    teacher: ChatModel,
    templates: Templates,
    engine: Engine,
    seed: int,
    how: Rewriting,
) -> tuple[list[Pair], Balance]:
    """A pair of the teacher's own response to each prompt and its rewriting."""
    own = {prompt.id: response for prompt, response in responses}
    subjects = {prompt.id: prompt for prompt, _ in responses}
    changes = {identity: draw_change(prompt, seed, how) for identity, prompt in subjects.items()}
    questions = [rewriting_question(subjects[i], own[i], change, templates) for i, change in changes.items()]
    outcomes = engine.ask(teacher, "rewrite", questions)
    pairs = []
    balance = Balance("rewrite", "prompts", len(subjects))
    for identity, prompt in subjects.items():
        outcome, response, change = outcomes[identity], own[identity], changes[identity]
        if not isinstance(outcome, Answer):
            balance.lose_to(outcome, identity, teacher.model)
            continue
        if outcome.value == response:
            balance.lose("filtered", "unchanged", identity)
            continue
        better, worse = (outcome.value, response) if change.direction == "better" else (response, outcome.value)
        provenance = {"teacher": teacher.model, "direction": change.direction, "aspects": list(change.aspects)}
        pairs.append(
            Pair.of(
                prompt,
                better,
                worse,
                "rewritten",
                chosen_score=None,
                rejected_score=None,
                teacher_response=response,
                provenance=provenance,
            )
        )
        balance.keep()
    return pairs, balance.check()
