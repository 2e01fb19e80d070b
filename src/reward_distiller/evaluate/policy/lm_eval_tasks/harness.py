"""What the YAML files of our tasks name: the functions that lm-eval calls. Imported by lm-eval alone.

Each question carries the shots that may stand before it, so they do not hang on a random state of lm-eval's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
from lm_eval.api.samplers import ContextSampler

from reward_distiller.evaluate.policy.lm_eval_tasks.grading import grader
from reward_distiller.evaluate.policy.lm_eval_tasks.questions import questions_of, shots_of


def documents(
    *, benchmark: str, folder: str | None = None, limit: int | None = None, shots: int = 0, **_: Any
) -> dict[str, datasets.Dataset]:
    """The questions as lm-eval's one split; the arguments are the task's metadata."""
    before = {
        label: [{"prompt": shot.prompt, "target": shot.target} for shot in found]
        for label, found in shots_of(benchmark, folder, shots).items()
    }
    rows = [
        {
            "benchmark": benchmark,
            "id": question.id,
            "prompt": question.prompt,
            "target": question.target,
            "gold": question.gold,
            "label": question.label,
            "group": question.group or question.id,
            "shots": before.get(question.label) or before.get("") or [],
        }
        for question in questions_of(benchmark, folder, limit)
    ]
    return {"test": datasets.Dataset.from_list(rows)}


class CarriedShots(ContextSampler):  # type: ignore[misc]  # lm-eval has no types
    """The first n of the shots that a question carries."""

    def sample(self, n: int, eval_doc: Mapping[str, Any] | None = None, **_: Any) -> Sequence[Mapping[str, Any]]:
        shots: list[Mapping[str, Any]] = [] if eval_doc is None else eval_doc["shots"]
        if len(shots) < n:
            raise ValueError(f"{n} shots are asked for, and the question carries {len(shots)}")
        return shots[:n]


def accuracy(doc: Mapping[str, Any], responses: Sequence[str]) -> dict[str, float]:
    return {"acc": float(grader(doc["benchmark"])(doc["gold"], responses[0]).right)}
