"""Pairs as a data set: the conversational preference format that TRL and others read, plus what the teacher said."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reward_distiller.construct.load import load_pairs
from reward_distiller.files import read_rows, write_rows
from reward_distiller.records import Pair


def pair_row(pair: Pair) -> dict[str, Any]:
    return {
        "id": pair.id,
        "prompt_id": pair.prompt.id,
        "prompt": pair.prompt.as_dicts(),
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "chosen_score": pair.chosen_score,
        "rejected_score": pair.rejected_score,
        "teacher_response": pair.teacher_response,
        "chosen_critique": pair.chosen_critique,
        "rejected_critique": pair.rejected_critique,
        "chosen_attributes": pair.chosen_attributes,
        "rejected_attributes": pair.rejected_attributes,
        "source": pair.source,
        "provenance": pair.provenance,
    }


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    write_rows(path, (pair_row(p) for p in pairs))


def read_pairs(path: Path, *, scored: bool) -> list[Pair]:
    """Read pairs that this package wrote, or anyone's in the same columns."""
    return load_pairs(str(path), read_rows(path), {}, scored=scored)[0]
