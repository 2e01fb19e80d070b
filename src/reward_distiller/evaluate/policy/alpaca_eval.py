"""AlpacaEval 2: 805 instructions, a policy's response against GPT-4's, length-controlled (Dubois et al., 2024).

A judge sees both responses once, in an order drawn from the texts, and its verdict is the probability of the one shown
first. The files are the official repository's: the reference's outputs, and, where there is to be a length-controlled
win rate, each instruction's difficulty and the official coefficients. The leaderboard's judge is GPT-4 with a prompt of
its own; another judge's figures are comparable among themselves only. Knows no judge.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reward_distiller.errors import DataError
from reward_distiller.evaluate.policy import length_control
from reward_distiller.evaluate.policy.length_control import Floats, Weights
from reward_distiller.evaluate.policy.protocol import (
    Judged,
    JudgeRequest,
    PolicyBenchmark,
    PolicyFigures,
    Task,
    Verdicts,
)
from reward_distiller.evaluate.resampling import Places, bootstrap
from reward_distiller.evaluate.statistics import Figure, percent
from reward_distiller.files import read_rows
from reward_distiller.records import content_id
from reward_distiller.rows import Fields

REFERENCES = ("reference*.jsonl*", "reference*.json*", "model_outputs.json*")
DIFFICULTIES, WEIGHTS = "instruction_difficulty*.csv", "lc_glm_weights.csv"
GAMED = ("gpt4_1106_preview_verbose", "gpt4_1106_preview_concise")  # the reference, told to be so
EXPECTS = (
    "rows {instruction, output} of the reference, maybe with idx and dataset, in a file, or in a folder as "
    f"reference*.jsonl; beside them {DIFFICULTIES} and {WEIGHTS} for the length-controlled win rate"
)


def read(path: Path) -> list[Task]:
    """A task an instruction. Raises DataError for rows that are not of the reference, and for tables that are none."""
    difficulties, gamed = {}, []
    file = path
    if path.is_dir():
        file = _first(path, REFERENCES)
        if tables := sorted(path.glob(DIFFICULTIES)):
            difficulties = read_difficulties(tables[0])
        if (path / WEIGHTS).is_file():
            official = read_weights(path / WEIGHTS)
            gamed = [official[name] for name in GAMED if name in official]
    tasks = []
    for number, row in read_rows(file):
        fields = Fields(str(file), number, row, {"prompt": "instruction"})
        index = row.get("idx", number - 1)
        details: dict[str, Any] = {"reference": fields.response("output"), "difficulty": difficulties.get(str(index))}
        labels = {"dataset": name} if (name := fields.text("dataset")) else {}
        tasks.append(Task(str(index), fields.prompt(), labels, {**details, "gamed": gamed}))
    return tasks


def read_difficulties(path: Path) -> dict[str, float]:
    """Index of an instruction -> its difficulty: the first two columns. Raises DataError for what is no number."""
    found = {}
    for number, row in _csv(path):
        name, *values = row.items()
        if not values:
            raise DataError(path, "one column", row=number, mend="Write an index and a difficulty a row")
        found[str(name[1])] = _number(path, number, *values[0])
    return found


def read_weights(path: Path) -> dict[str, Weights]:
    """Model -> official coefficients. Raises DataError for a table that has not the three of them."""
    found = {}
    for number, row in _csv(path):
        name, *values = row.items()
        parts = {}
        for part, sign in (("length", "std_delta_len"), ("difficulty", "difficulty"), ("model", "not_gamed")):
            columns = [item for item in values if sign in str(item[0])]
            if len(columns) != 1:
                raise DataError(path, "not one such column", field=sign, mend="Use the official repository's file")
            parts[part] = _number(path, number, *columns[0])
        found[str(name[1])] = Weights(**parts)
    return found


def request(task: Task, response: str) -> JudgeRequest | Verdicts:
    """The two responses in their drawn order; equal ones are worth one half, unasked."""
    reference = task.details["reference"]
    if response == reference:
        return (0.5,)
    first, second = (response, reference) if shown_first(task, response) else (reference, response)
    return JudgeRequest("preference", {"response_1": first, "response_2": second})


def shown_first(task: Task, response: str) -> bool:
    """Whether the judge sees the policy's response first: drawn by the texts alone, so nothing else can tell."""
    reference = task.details["reference"]
    drawn = int(content_id([task.prompt.id, *sorted([response, reference])]), 16) % 2 == 1
    return drawn == (response < reference)


def preference(judged: Judged) -> float:
    """The probability that the policy's response is preferred."""
    (first,) = judged.verdicts
    return first if shown_first(judged.task, judged.response) else 1 - first


def figures(judged: Sequence[Judged]) -> PolicyFigures:
    """`win_rate` is the mean probability; `discrete_win_rate` counts those above one half, and ties half."""
    return figures_of([each.task for each in judged], [each.response for each in judged], list(map(preference, judged)))


def figures_of(tasks: Sequence[Task], responses: Sequence[str], preferences: Sequence[float]) -> PolicyFigures:
    """Of responses whose preferences are known: in percent, with 95% bootstrap intervals over instructions.

    In every resample the regression behind `length_controlled_win_rate` is fitted anew, with the penalty of the whole.
    """
    preference_N = np.array(preferences, dtype=float)
    discrete_N = (preference_N > 0.5) + 0.5 * (preference_N == 0.5)
    found: dict[str, Figure] = {"win_rate": percent(preference_N), "discrete_win_rate": percent(discrete_N)}
    details: dict[str, Any] = {
        "standard_error": _standard_error(preference_N),
        "wins": int((preference_N > 0.5).sum()),
        "losses": int((preference_N < 0.5).sum()),
        "draws": int((preference_N == 0.5).sum()),
        "mean_length": float(np.mean([len(text) for text in responses])),
    }
    notes = []
    if whole := int(np.isin(preference_N, (0.0, 1.0)).sum()):
        notes.append(f"{whole:,} of {len(tasks):,} preferences are a bare letter, or as certain as one")
    if missing := _lacking(tasks):
        notes.append(f"there is no length-controlled win rate: {missing}")
    else:
        controlled = LengthControlled(tasks, responses, preference_N)
        estimate = bootstrap(controlled.statistic, [task.prompt.id for task in tasks])["win_rate"]
        low, value, high = (round(100 * x, 3) for x in (estimate.low, estimate.value, estimate.high))
        found["length_controlled_win_rate"] = Figure(value, low, high, estimate.n)
        details["length_control"] = {**vars(controlled.weights), "strength": controlled.strength}
    by_dataset: dict[str, list[float]] = {}
    for task, value in zip(tasks, preferences, strict=True):
        if "dataset" in task.labels:
            by_dataset.setdefault(task.labels["dataset"], []).append(value)
    found |= {f"win_rate.{name}": percent(by_dataset[name]) for name in sorted(by_dataset)}
    return PolicyFigures(found, notes, details)


class LengthControlled:
    """The regression of one policy's preferences. Raises ValueError where a task has no difficulty."""

    def __init__(self, tasks: Sequence[Task], responses: Sequence[str], preference_N: Floats):
        if lacking := _lacking(tasks):
            raise ValueError(lacking)
        self._gamed = tasks[0].details["gamed"]
        lengths = [len(task.details["reference"]) - len(text) for task, text in zip(tasks, responses, strict=True)]
        self._difference_N, self._preference_N = np.array(lengths, dtype=float), preference_N
        self.difficulty_N = np.array([task.details["difficulty"] for task in tasks], dtype=float)
        rows = self._rows(np.arange(len(tasks)))
        self.strength = length_control.chosen_strength(rows)
        self.weights = length_control.fit(rows, self.strength)

    @property
    def win_rate(self) -> float:
        return self.weights.win_rate(self.difficulty_N)

    def statistic(self, at: Places) -> dict[str, float]:
        """The win rate of a resample, from 0 to 1."""
        return {"win_rate": length_control.fit(self._rows(at), self.strength).win_rate(self.difficulty_N[at])}

    def _rows(self, at: NDArray[np.intp]) -> length_control.Rows:
        return length_control.rows_of(
            self._difference_N[at], self.difficulty_N[at], self._preference_N[at], self._gamed
        )


def _lacking(tasks: Sequence[Task]) -> str:
    """Why there can be no length control, or nothing."""
    without = sum(task.details["difficulty"] is None for task in tasks)
    if without:
        return f"{without:,} instructions have no difficulty ({DIFFICULTIES})"
    if len(tasks[0].details["gamed"]) != len(GAMED):
        return f"the coefficients of {' and '.join(GAMED)} are not there ({WEIGHTS})"
    return ""


def _standard_error(preference_N: Floats) -> float | None:
    """Of the win rate, in percent."""
    n = len(preference_N)
    return 100 * float(preference_N.std(ddof=1)) / math.sqrt(n) if n > 1 else None


def _first(folder: Path, patterns: Sequence[str]) -> Path:
    for pattern in patterns:
        if files := sorted(folder.glob(pattern)):
            return files[0]
    raise DataError(folder, "the reference's outputs do not lie there", mend=f"It takes {EXPECTS}")


def _csv(path: Path) -> Iterator[tuple[int, dict[str | None, str]]]:
    """Rows with their numbers, the header not counted. Raises DataError for what is no such table."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            yield from enumerate(csv.DictReader(file), 1)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})", mend="Write a CSV table in UTF-8") from error


def _number(path: Path, row: int, column: str | None, text: Any) -> float:
    try:
        number = float(text)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(path, f"{text!r:.40} is no number", row=row, field=column, mend="Write a finite number")
    return number


BENCHMARK = PolicyBenchmark(
    name="alpaca_eval",
    about="AlpacaEval 2: win rate and length-controlled win rate against GPT-4's outputs",
    expects=EXPECTS,
    read=read,
    request=request,
    figures=figures,
)
