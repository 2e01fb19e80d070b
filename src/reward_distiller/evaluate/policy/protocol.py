"""What a benchmark of policies says of itself: its tasks, what a judge is asked of a response, and its figures.

A task is a prompt with all that its judging needs. A judge is asked for one verdict or several on a response, each from
0 to 1: a constraint that is met or not, a probability of being preferred. What a rule decides needs no judge. Figures
are made of verdicts alone. Judge prompts and the strict reading of their answers are kinds of judgement, by name, in
`teacher/verdicts.py`; who joins the two is `recipes/policy_evaluation.py`. Knows no judge, no teacher and no policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_distiller.evaluate.resampling import Estimate
from reward_distiller.evaluate.statistics import Figure
from reward_distiller.records import Prompt

Verdicts = tuple[float, ...]  # each from 0 to 1


@dataclass(frozen=True)
class Task:
    """A prompt that policies answer. `id` is unique in the benchmark; a response is matched by `prompt.id`.

    `labels` are what figures are broken down by; `details` is what else judging and figures need (a reference's output,
    constraints), for the benchmark's own file to read.
    """

    id: str
    prompt: Prompt
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JudgeRequest:
    """A judge is to give `count` verdicts. `kind` names the judgement, `values` are the texts of its prompt's template.

    The template gets the task's prompt as `conversation` as well.
    """

    kind: str
    values: Mapping[str, str]
    count: int = 1


@dataclass(frozen=True)
class Judged:
    """A response to a task with its verdicts: the judge's, in the order in which it was asked, or a rule's."""

    task: Task
    response: str
    verdicts: Verdicts


@dataclass(frozen=True)
class PolicyFigures:
    """Figures by name, in percent where a Figure, in their own unit where an Estimate; `notes` are what a reader must
    know of them. `details` is anything else that results.json is to hold."""

    figures: Mapping[str, Figure | Estimate]
    notes: Sequence[str] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyBenchmark:
    """`read` makes tasks of a file or folder that holds what `expects` says, and raises DataError for anything else.

    `request` gives the verdicts themselves where a rule decides. `figures` is never called without any Judged.
    `upstream`, where there is one, reads a judge's raw answer as the benchmark's own scripts do, fallbacks and all
    (None: they leave the response out; verdicts below 0 where they count such an answer so). It is asked for by name
    only, and the results say so.
    """

    name: str
    about: str
    expects: str
    read: Callable[[Path], Sequence[Task]]
    request: Callable[[Task, str], JudgeRequest | Verdicts]
    figures: Callable[[Sequence[Judged]], PolicyFigures]
    upstream: Callable[[Task, str], Verdicts | None] | None = None
