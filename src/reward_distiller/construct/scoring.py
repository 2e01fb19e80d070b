"""How a teacher's scores are asked for: one sample, its expectation, or the mean of several; in one order or in both.

What two responses get side by side depends on their order. Asked in both, the scores are means over the orders, and
where the orders disagree on which response is better the verdict is *flipped*: a step makes a tie of it or takes
the means as a soft label. Every score comes with how it came about. Knows no pairs and no steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import Annotation, ChatModel, ScoreMode
from reward_distiller.records import Prompt
from reward_distiller.teacher.completion import Completion
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.expected import TOP, expected_scores
from reward_distiller.teacher.parsing import parse_pair_scores, parse_score
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Messages, Question
from reward_distiller.teacher.structured import PAIR_SCORES, SCORE, Schema, read_scores

Shown = tuple[str, Prompt, str, str]  # identity, prompt, and the responses in the order in which they are shown


@dataclass(frozen=True)
class Scores:
    """Scores in the order asked about. `flipped`: whether the two orders prefer different responses, if both were."""

    values: tuple[float, ...]
    mode: ScoreMode = "sampled"
    flipped: bool | None = None


Outcome = Scores | Quarantined | Failed


@dataclass(frozen=True)
class Scoring:
    """A teacher, and how it is asked for scores."""

    teacher: ChatModel
    templates: Templates
    engine: Engine
    settings: Annotation = field(default_factory=Annotation)

    def of_pairs(self, step: str, shown: Sequence[Shown]) -> dict[str, Outcome]:
        """Scores of the first and the second response of each, by identity (prompt D.1)."""
        questions = pair_questions(shown, self.teacher, self.templates, self.settings)
        answers = self.engine.ask(self.teacher, step, questions)
        outcomes: dict[str, Outcome] = {}
        for identity, *_ in shown:
            straight = self._mean(answers, identity)
            if self.settings.both_orders and isinstance(straight, Scores):
                outcomes[identity] = _of_both(straight, self._mean(answers, _swapped(identity)))
            else:
                outcomes[identity] = straight
        return outcomes

    def of_dialogues(self, step: str, dialogues: Sequence[tuple[str, Messages]]) -> dict[str, Outcome]:
        """The one score that the last turn of each asks for, by identity (prompt D.3)."""
        questions = [
            question
            for identity, messages in dialogues
            for question in _questions(
                identity, messages, SCORE, _parse_one, self.teacher, self.templates, self.settings
            )
        ]
        answers = self.engine.ask(self.teacher, step, questions)
        return {identity: self._mean(answers, identity) for identity, _ in dialogues}

    def _mean(self, answers: Mapping[str, Answer[Scores] | Quarantined | Failed], identity: str) -> Outcome:
        """Over the samples of one question. One that is missing speaks for all: a mean of fewer is another score."""
        read: list[Scores] = []
        for number in range(self.settings.samples):
            outcome = answers[_sample(identity, number)]
            if not isinstance(outcome, Answer):
                return outcome
            read.append(outcome.value)
        return read[0] if len(read) == 1 else Scores(_means(read), "mean_of_n")


def pair_questions(
    shown: Sequence[Shown], teacher: ChatModel, templates: Templates, settings: Annotation
) -> list[Question[Scores]]:
    """All that `Scoring.of_pairs` asks."""
    questions: list[Question[Scores]] = []
    for identity, prompt, first, second in shown:
        orders = {identity: (first, second)}
        if settings.both_orders:
            orders[_swapped(identity)] = (second, first)
        for name, (one, other) in orders.items():
            text, _ = templates.render("pairwise_scores", prompt, response_1=one, response_2=other)
            messages = [{"role": "user", "content": text}]
            questions += _questions(name, messages, PAIR_SCORES, parse_pair_scores, teacher, templates, settings)
    return questions


def _questions(
    identity: str,
    messages: Messages,
    schema: Schema,
    parse: Callable[[str], tuple[float, ...]],
    teacher: ChatModel,
    templates: Templates,
    settings: Annotation,
) -> list[Question[Scores]]:
    """One question, as many times as samples are wanted."""
    extra: dict[str, Any] = {}
    if teacher.structured:
        messages, parse, extra = templates.with_form(messages, schema), partial(read_scores, schema), schema.request
    if settings.scores == "expected":
        extra = {**extra, "logprobs": True, "top_logprobs": TOP}
    return [
        Question(
            _sample(identity, number),
            messages,
            lambda text: Scores(parse(text)),
            extra,
            _weighed if settings.scores == "expected" else None,
            number * teacher.max_asks,
        )
        for number in range(settings.samples)
    ]


def _parse_one(text: str) -> tuple[float, ...]:
    return (parse_score(text),)


def _weighed(sampled: Scores, completion: Completion) -> Scores:
    """The expectation where the answer's probabilities tell it; the sample, and said to be one, where they do not."""
    expected = expected_scores(completion, sampled.values)
    return sampled if expected is None else Scores(expected, "expected")


def _of_both(straight: Scores, swapped: Outcome) -> Outcome:
    """Means over the two orders, in the order of the first."""
    if not isinstance(swapped, Scores):
        return swapped
    turned = Scores(swapped.values[::-1], swapped.mode)
    leads = [first - second for first, second in (straight.values, turned.values)]
    mode = straight.mode if straight.mode == turned.mode else "sampled"
    return Scores(_means([straight, turned]), mode, flipped=leads[0] * leads[1] < 0)


def _means(scores: Iterable[Scores]) -> tuple[float, ...]:
    return tuple(map(fmean, zip(*(s.values for s in scores), strict=True)))


def _swapped(identity: str) -> str:
    return f"{identity}:swapped"


def _sample(identity: str, number: int) -> str:
    return f"{identity}#{number}" if number else identity
