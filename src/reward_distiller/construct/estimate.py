"""What the calls of a run will take, before any is made: calls, tokens and money of each step, low and high.

A step whose questions are known is counted exactly, less what the ledger holds. One that asks about texts that are
still to be written is bounded: they may be as long as their writer's max_tokens. Low is a guess from the known
texts alone, with one token for each that is not known; high is a bound, but for answers that must be asked for
again. Makes no call.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reward_distiller.config import Annotation, ChatModel
from reward_distiller.construct.annotate import label_order
from reward_distiller.construct.candidates import candidate_questions
from reward_distiller.construct.pipeline import ConstructionPlan, distinct_prompts
from reward_distiller.construct.scoring import pair_questions
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.cost import NOTHING, Cost, cost_of_call
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.engine import requests_of
from reward_distiller.teacher.ledger import LedgerReader
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Question
from reward_distiller.teacher.worst_case import low_input, worst_case

LOWEST_ANSWER = 1  # token


@dataclass(frozen=True)
class StepEstimate:
    """Calls of one step: `calls` at most, of which `bought` stand in the ledger already (None: not known yet).

    `low` and `high` are what the rest takes; money is None where the model has no price.
    """

    step: str
    model: str
    calls: int
    bought: int | None
    low: Cost
    high: Cost


@dataclass(frozen=True)
class Unwritten:
    """A question about texts that are not there yet: its messages without them, and how long they may be (tokens)."""

    messages: Sequence[dict[str, str]]
    most: int
    texts: int


class _Estimating:
    def __init__(self, ledger: LedgerReader | None):
        self.ledger = ledger
        self.rows: list[StepEstimate] = []

    def known(self, step: str, model: ChatModel, questions: Sequence[Question[Any]]) -> None:
        requests = requests_of(model, questions)
        there = self.ledger.get_many(requests) if self.ledger else {}
        missing = [request for key, request in requests.items() if key not in there]
        low, high = NOTHING, NOTHING
        for request in missing:
            low += _cost(model, low_input(request) or 0, LOWEST_ANSWER)
            high += _worst(model, request, 0)
        self.rows.append(StepEstimate(step, model.model, len(requests), len(requests) - len(missing), low, high))

    def unknown(self, step: str, model: ChatModel, asked: Iterable[Unwritten], times: int = 1) -> None:
        calls, low, high = 0, NOTHING, NOTHING
        for question in asked:
            request = build_request(model, question.messages, 0)
            least = _cost(model, (low_input(request) or 0) + question.texts, LOWEST_ANSWER)
            most = _worst(model, request, question.most)
            for _ in range(times):
                calls, low, high = calls + 1, low + least, high + most
        self.rows.append(StepEstimate(step, model.model, calls, None, low, high))


def _cost(model: ChatModel, read: int, written: int) -> Cost:
    return cost_of_call(model.price, read, written, model.batch.price_factor if model.batch else 1.0)


def _worst(model: ChatModel, request: dict[str, Any], more: int) -> Cost:
    most = worst_case(request)
    return _cost(model, (most.input or 0) + more, most.output or 0)


def estimate(
    ledger: LedgerReader | None,
    prompts: Sequence[Prompt],
    labeled: Sequence[Pair],
    candidates: Sequence[ChatModel],
    teacher: ChatModel | None,
    templates: Templates,
    plan: ConstructionPlan,
    seed: int,
    annotation: Annotation,
) -> list[StepEstimate]:
    """A row a step and model. `ledger` is None where there is none yet."""
    found = _Estimating(ledger)
    subjects = list(prompts) or distinct_prompts(labeled)
    own = teacher.sampling.max_tokens if teacher else 0
    theirs = max((c.sampling.max_tokens for c in candidates), default=own)
    theirs = max([theirs, *(len(text.encode()) for pair in labeled for text in (pair.chosen, pair.rejected))])

    def about(template: str, texts: dict[str, int], subjects: Sequence[Prompt], **given: str) -> list[Unwritten]:
        """Questions of a template about texts of so many tokens at most."""
        return [
            Unwritten(
                [
                    {
                        "role": "user",
                        "content": templates.render(template, prompt, **dict.fromkeys(texts, ""), **given)[0],
                    }
                ],
                sum(texts.values()),
                len(texts),
            )
            for prompt in subjects
        ]

    if plan.rewriting and teacher:
        found.known("reference", teacher, candidate_questions(subjects))
        aspects = {"direction": "better", "aspects": ", ".join(plan.rewriting.aspects)}
        found.unknown("rewrite", teacher, about("rewrite", {"response": own}, subjects, **aspects))
        return found.rows
    for model in candidates:
        found.known("candidates", model, candidate_questions(prompts))
    if teacher is None:
        return found.rows
    of_pairs = list(prompts) or [pair.prompt for pair in labeled]
    both = {"response_1": theirs, "response_2": theirs}
    orders = (2 if annotation.both_orders else 1) * annotation.samples
    if labeled:
        shown = label_order(labeled, seed)
        found.known("annotate", teacher, pair_questions(shown, teacher, templates, annotation))
    else:
        found.unknown("annotate", teacher, about("pairwise_scores", both, prompts), orders)
    if plan.references or plan.refinement:
        without = list(prompts) or distinct_prompts([p for p in labeled if p.teacher_response is None])
        found.known("reference", teacher, candidate_questions(without, plan.reference_fields))
    if plan.refinement:
        refining = about("refinement", {"preferred": own, "rejected": theirs}, of_pairs)
        found.unknown("refine", teacher, refining)
        if plan.refinement.scoring == "pairwise":
            found.unknown("score", teacher, about("pairwise_scores", both, of_pairs), orders)
        else:
            scoring = [
                Unwritten([*asked.messages, *turn.messages], asked.most + own, asked.texts + 1)
                for asked, turn in zip(refining, about("calibrated_score", {}, of_pairs, anchor="10"), strict=True)
            ]
            found.unknown("score", teacher, scoring, annotation.samples)
    twice = [prompt for prompt in of_pairs for _ in range(2)]
    if plan.critiques:
        found.unknown("critique", teacher, about("critique", {"response": theirs}, twice))
    if plan.attributes:
        names = "\n".join(plan.attributes)
        found.unknown("attributes", teacher, about("attribute_scores", {"response": theirs}, twice, attributes=names))
    return found.rows
