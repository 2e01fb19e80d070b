"""Who labels responses by a config: the form of final answers, and the judge behind its engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reward_distiller.answers import AnswerFormat, answer_format
from reward_distiller.config import Annotation, Answers, Labels
from reward_distiller.construct.labeled_responses import POLICY
from reward_distiller.construct.pseudo_rewards import Labeler, Query
from reward_distiller.construct.pseudo_rewards import Sample as Asked
from reward_distiller.construct.scoring import Scoring
from reward_distiller.errors import ConfigError, RewardError
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import Message, Prompt
from reward_distiller.rl.terms import Sample, Term
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.prompts import Templates


def form_of(answers: Answers, parts: Parts) -> AnswerFormat:
    if answers.format == "testbed":
        return parts.answers
    options: dict[str, Any] = {"choice": {"options": answers.options}, "pattern": {"pattern": answers.pattern}}
    return answer_format(answers.format, **options.get(answers.format, {}))


def check_judge(labels: Labels, queries: Sequence[Query]) -> None:
    """Raises ConfigError where an open-ended query would find no judge."""
    if labels.judge is None and any(query.open_ended for query in queries):
        raise ConfigError("some prompts are open_ended, and nobody judges responses to them. Name `labels.judge`")


def labels_term(labeler: Labeler) -> Term:
    """The pseudo-reward itself as a reward. Raises RewardError for a response that the judge gives no usable score."""
    field = labeler.labels.field

    def score(samples: Sequence[Sample]) -> list[float]:
        asked = [_as_asked(labeler, field, number, sample) for number, sample in enumerate(samples)]
        labeled, balance = labeler.label(asked)
        if len(labeled) < len(samples):
            raise RewardError(f"{balance.line()}. A response without a label has no reward; see the ledger, run again")
        return [each.reward for each in labeled]

    return score


def _as_asked(labeler: Labeler, field: str, number: int, sample: Sample) -> Asked:
    prompt = Prompt.of(tuple(Message.model_validate(turn) for turn in sample.messages))
    open_ended = bool(sample.row.get("open_ended"))
    given = sample.row.get(field)
    query = Query(prompt, {}, open_ended, None if given is None else labeler.form.extract(str(given)))
    if labeler.checks(query) and query.consensus is None:
        raise RewardError(
            f"a prompt's row has no {field!r} that is an answer; its labels are made of it: {given!r:.60}"
        )
    return Asked(query, number, sample.response, POLICY, 1.0)


def labeler_of(labels: Labels, annotation: Annotation, parts: Parts, engine: Engine | None) -> Labeler:
    """A judge needs the engine."""
    judge = None
    if labels.judge is not None and engine is not None:
        model = parts.chat_model(labels.judge)
        judge = Scoring(model, Templates(annotation.templates), engine, annotation)
    return Labeler(labels, form_of(labels.answers, parts), judge)
