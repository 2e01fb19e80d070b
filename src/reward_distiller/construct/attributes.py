"""Scores of single responses by attribute: what SteerLM's head predicts (paper, equation 7 with several)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel
from reward_distiller.construct.responses import add_to_both, questions_about
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.parsing import parse_attribute_scores
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Question


def attribute_question(
    identity: str, prompt: Prompt, response: str, names: Sequence[str], templates: Templates
) -> Question[dict[str, float]]:
    """All the named attributes of a response, rated in one answer."""
    text, _ = templates.render("attribute_scores", prompt, response=response, attributes="\n".join(names))
    return Question(identity, [{"role": "user", "content": text}], lambda answer: parse_attribute_scores(answer, names))


def attribute_questions(
    responses: Iterable[tuple[Prompt, str]], names: Sequence[str], templates: Templates
) -> list[Question[dict[str, float]]]:
    """One question a distinct response."""
    return questions_about(responses, lambda identity, p, text: attribute_question(identity, p, text, names, templates))


def add_attributes(
    pairs: Sequence[Pair], names: Sequence[str], teacher: ChatModel, templates: Templates, engine: Engine
) -> tuple[list[Pair], Balance]:
    """Scores by attribute for each response of the pairs; a pair without both at the end is lost.

    A response that has all the named attributes is not asked about; what it has beside them stays. An attribute that
    comes from elsewhere, as the annotation's own score does, is not to be named.
    """
    return add_to_both(
        pairs,
        "attributes",
        "attributes",
        lambda identity, prompt, text: attribute_question(identity, prompt, text, names, templates),
        teacher,
        engine,
        complete=lambda there: set(names) <= set(there or ()),
        merge=lambda there, answer: {**(there or {}), **answer},
    )
