"""Graded responses as figures: accuracy, and accuracy by label, each with a 95% interval.

Variants of one question are not independent, so GSM-Plus's intervals are over its seed questions, each resampled with
all its perturbations; the others' are over questions. Knows no lm-eval and no grading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_distiller.evaluate.metrics import figure, grouped, mean
from reward_distiller.evaluate.policy.lm_eval_tasks.grading import Grade
from reward_distiller.evaluate.policy.lm_eval_tasks.questions import UNANSWERABLE
from reward_distiller.evaluate.policy.protocol import PolicyFigures


@dataclass(frozen=True)
class Sample:
    """One response. `prompt` is what was sent: text, or messages."""

    task: str
    id: str
    label: str
    group: str
    prompt: Any
    response: str
    gold: str | None
    grade: Grade

    def row(self) -> dict[str, Any]:
        found = {"task": self.task, "id": self.id, "label": self.label, "prompt": self.prompt}
        graded = {"answer": self.grade.answer, "gold": self.gold, "right": self.grade.right}
        return {**found, "response": self.response, **graded}


def figures_of(samples: Sequence[Sample]) -> PolicyFigures:
    """`accuracy`, and `accuracy.LABEL` where questions have labels; `with_answer` leaves critical thinking out."""
    right = {sample.id: float(sample.grade.right) for sample in samples}
    group_of = {sample.id: sample.group for sample in samples}
    label_of = {sample.id: sample.label for sample in samples}
    found = {"accuracy": figure(mean(right), group_of)}
    answerable = {name: value for name, value in right.items() if label_of[name] != UNANSWERABLE}
    if answerable and len(answerable) < len(right):
        found["accuracy.with_answer"] = figure(mean(answerable), group_of)
    labeled = {name: value for name, value in right.items() if label_of[name]}
    for label, metric in grouped(labeled, label_of).items():
        found[f"accuracy.{label}"] = figure(metric, group_of)
    empty = sum(not sample.response.strip() for sample in samples)
    without = sum(sample.grade.answer is None for sample in samples)
    notes = [f"{empty:,} responses are empty"] if empty else []
    return PolicyFigures(found, notes, {"questions": len(samples), "without_answer": without})
