"""The teacher's critiques of single responses: what SynRM reads and CLoud learns to write (paper, A.3, prompt D.4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.construct.responses import add_to_both, questions_about, response_id
from reward_distiller.errors import CallsFailed
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.parsing import parse_response
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question


def critique_question(identity: str, prompt: Prompt, response: str, templates: Templates) -> Question[str]:
    """Prompt D.4: a short paragraph on whether the response is helpful and correct."""
    text, _ = templates.render("critique", prompt, response=response)
    return Question(identity, [{"role": "user", "content": text}], parse_response)


def critique_questions(responses: Iterable[tuple[Prompt, str]], templates: Templates) -> list[Question[str]]:
    """One question a distinct response."""
    return questions_about(responses, lambda identity, p, text: critique_question(identity, p, text, templates))


def add_critiques(
    pairs: Sequence[Pair], teacher: ChatModel, templates: Templates, engine: Engine
) -> tuple[list[Pair], Balance]:
    """A critique of each response of the pairs. One that is there is kept; a pair without both at the end is lost."""
    return add_to_both(
        pairs,
        "critique",
        "critique",
        lambda identity, prompt, text: critique_question(identity, prompt, text, templates),
        teacher,
        engine,
        complete=lambda there: there is not None,
        merge=lambda there, answer: answer,
    )


def critique_responses(
    rows: Sequence[tuple[Prompt, Sequence[str]]],
    teacher: ChatModel,
    templates: Templates,
    engine: Engine,
    step: str = "evaluate: critique",
) -> list[list[str]]:
    """A critique of each response that is to be scored, in the order of the rows.

    Raises CallsFailed where one did not come: a response without one cannot be compared with the others.
    """
    questions = critique_questions(((prompt, text) for prompt, texts in rows for text in texts), templates)
    outcomes = engine.ask(teacher, step, questions)
    critiques: list[list[str]] = []
    for number, (prompt, texts) in enumerate(rows, 1):
        critiques.append([])
        for place, text in enumerate(texts, 1):
            outcome = outcomes[response_id(prompt, text)]
            if not isinstance(outcome, Answer):
                raise CallsFailed(
                    f"step {step}: no critique of response {place} of row {number} ({outcome.reason}). Run the same "
                    "command again to ask for it; if its answers are unusable, raise the teacher's max_asks first"
                )
            critiques[-1].append(outcome.value)
    return critiques
