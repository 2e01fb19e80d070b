"""Recorded judgements as labeled pairs with scores: a real teacher's, read from a published data set.

AlpacaEval 2 has, for each instruction, what many models answered and how likely the judge (GPT-4 Turbo) is to
prefer the answer to GPT-4's own. Two models' answers to one instruction then make a pair whose margin is the
difference of these likelihoods, and GPT-4's own answer is the teacher response. Nothing is asked of anyone.
Rows are joined by `idx`, never by position. Knows no training, and not what the pairs are used for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.errors import ConfigError, DataError
from reward_distiller.files import Row, read_rows
from reward_distiller.records import Prompt

REFERENCE = "reference_gpt4_1106_preview.jsonl.gz"
ANNOTATIONS = "annotations"
LEFT_OUT = ("NullModel",)  # one constant text written to fool the judge: its preferences judge no answer


@dataclass(frozen=True)
class Judged:
    """A model's answer to an instruction, with the judge's preference on the teacher's scale."""

    model: str
    output: str
    score: float


def teacher_score(preference: float) -> float:
    """The judge's preference, 1 (the reference is surely better) to 2 (the model is), on the scale of 1 to 10."""
    return 1 + 9 * (preference - 1)


def alpaca_eval_pairs(folder: str | Path, pairs_per_instruction: int, seed: int) -> tuple[list[Row], Balance]:
    """Rows of scored pairs, at most so many of each instruction, and what became of all that were drawn.

    An instruction's models are shuffled by (seed, instruction) alone and taken two by two, so none is in two
    pairs. The chosen one has the higher preference; equal preferences make no pair and are counted as tied.
    Raises DataError for missing files and fields and for rows that do not join, ConfigError for an impossible number.
    """
    folder = Path(folder)
    references = _by_idx(folder / REFERENCE)
    answers = dict(_models(folder / ANNOTATIONS, references))
    if not 1 <= pairs_per_instruction <= len(answers) // 2:
        raise ConfigError(
            f"pairs per instruction: {pairs_per_instruction} is not between 1 and {len(answers) // 2}; "
            f"{len(answers)} models answered and no answer is taken twice"
        )
    rows = []
    balance = Balance("draw pairs", "pairs", len(references) * pairs_per_instruction)
    for idx, (number, row) in sorted(references.items()):
        instruction = _text(folder / REFERENCE, number, row, "instruction")
        teacher_response = _text(folder / REFERENCE, number, row, "output")
        models = sorted(answers)
        random.Random(f"recorded:{seed}:{Prompt.from_text(instruction).id}").shuffle(models)
        known: set[frozenset[str]] = set()  # some models answer word for word alike
        for at in range(0, 2 * pairs_per_instruction, 2):
            first, second = (answers[model][idx] for model in models[at : at + 2])
            name = f"idx {idx}: {first.model}, {second.model}"
            if not first.output.strip() or not second.output.strip():
                balance.lose("dropped", "empty response", name)
            elif first.output == second.output:
                balance.lose("dropped", "equal responses", name)
            elif (texts := frozenset((first.output, second.output))) in known:
                balance.lose("dropped", "duplicate pair", name)
            elif first.score == second.score:
                balance.lose("tied", "equal preferences", name)
            else:
                rows.append(_pair_row(idx, instruction, first, second, teacher_response))
                known.add(texts)
                balance.keep()
    return rows, balance.check()


def _pair_row(idx: int, instruction: str, first: Judged, second: Judged, teacher_response: str) -> Row:
    chosen, rejected = (first, second) if first.score > second.score else (second, first)
    return {
        "prompt": instruction,
        "chosen": chosen.output,
        "rejected": rejected.output,
        "chosen_score": chosen.score,
        "rejected_score": rejected.score,
        "chosen_model": chosen.model,
        "rejected_model": rejected.model,
        "teacher_response": teacher_response,
        "provenance": {"alpaca_eval_idx": idx},
    }


def _models(folder: Path, references: dict[int, tuple[int, Row]]) -> Iterator[tuple[str, dict[int, Judged]]]:
    """Each model that is not left out, with its judged answers by idx: one for every instruction."""
    files = sorted(folder.glob("*.jsonl*"))
    if not files:
        raise DataError(folder, "holds no annotations (*.jsonl, *.jsonl.gz)", mend="Check the data folder")
    seen: dict[str, Path] = {}
    for path in files:
        rows = _by_idx(path)
        names = {_text(path, number, row, "generator"): number for number, row in rows.values()}
        if len(names) > 1:
            row = max(names.values())
            raise DataError(path, f"{len(names)} models in a file", row=row, field="generator", mend="Split the file")
        (name,) = names
        if name in seen:
            raise DataError(path, f"{name!r} is in {seen[name].name} too", field="generator", mend="Remove one of them")
        seen[name] = path
        for idx, (number, _) in rows.items():
            if idx not in references:
                raise DataError(path, f"{idx} is not in {REFERENCE}", row=number, field="idx", mend="Remove the row")
        for idx, (number, _) in references.items():
            if idx not in rows:
                problem = f"no row for {idx}, which is row {number} of {REFERENCE}"
                raise DataError(path, problem, field="idx", mend="Add it, or remove the model's file")
        if name not in LEFT_OUT:
            yield name, {idx: _judged(path, number, row, name) for idx, (number, row) in rows.items()}


def _judged(path: Path, number: int, row: Row, name: str) -> Judged:
    preference = _field(path, number, row, "preference")
    if isinstance(preference, bool) or not isinstance(preference, int | float) or not 1 <= preference <= 2:
        problem = f"{preference!r:.40} is not a preference"
        raise DataError(path, problem, row=number, field="preference", mend="Write a number from 1 to 2")
    return Judged(name, _text(path, number, row, "output"), teacher_score(preference))


def _by_idx(path: Path) -> dict[int, tuple[int, Row]]:
    """idx -> (row number, row)."""
    rows: dict[int, tuple[int, Row]] = {}
    for number, row in read_rows(path):
        idx = _field(path, number, row, "idx")
        if isinstance(idx, bool) or not isinstance(idx, int):
            raise DataError(path, f"{idx!r:.40} is not a whole number", row=number, field="idx", mend="Write 0, 1, ...")
        if idx in rows:
            problem = f"{idx} is in row {rows[idx][0]} too"
            raise DataError(path, problem, row=number, field="idx", mend="Remove one of the rows")
        rows[idx] = (number, row)
    return rows


def _text(path: Path, number: int, row: Row, name: str) -> str:
    value = _field(path, number, row, name)
    if not isinstance(value, str):
        raise DataError(path, f"{value!r:.40} is not text", row=number, field=name, mend='Write "..."')
    return value


def _field(path: Path, number: int, row: Row, name: str) -> Any:
    if row.get(name) is None:
        raise DataError(path, "missing", row=number, field=name, mend="Add it, or take the published file")
    return row[name]
