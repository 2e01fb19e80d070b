"""The pairs that the browser shows, read from a run's folder: what was made, what the teacher and the model said of it.

Rows are taken as they are, whatever a text holds. Knows no page.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reward_distiller.config import Report
from reward_distiller.errors import DataError
from reward_distiller.files import Row, read_rows
from reward_distiller.recipes.pair_rewards import REWARDS, TOKEN_VALUES, disagreements
from reward_distiller.yaml_text import parse_yaml

PAIRS = "pairs.jsonl"
MEND = "Put back what the run wrote, or make the run again"


@dataclass
class ShownPair:
    """A pair with what is known of it; `tokens` are the values along the responses, chosen and rejected."""

    id: str
    prompt_id: str
    prompt: list[tuple[str, str]]  # (role, text)
    chosen: str
    rejected: str
    scores: tuple[float | None, float | None]
    source: str
    models: tuple[str | None, str | None]
    diagnosis: str | None
    critiques: tuple[str | None, str | None]
    split: str | None = None
    rewards: tuple[float, float] | None = None
    without: str | None = None  # why there are no rewards
    disagreement: float | None = None
    tokens: tuple[Row, Row] | None = None
    without_tokens: str | None = None

    @property
    def margin(self) -> float | None:
        chosen, rejected = self.scores
        return None if chosen is None or rejected is None else chosen - rejected

    @property
    def reward_margin(self) -> float | None:
        return None if self.rewards is None else self.rewards[0] - self.rewards[1]


def shown_pairs(folder: Path) -> list[ShownPair]:
    """The pairs that the model has scored; where it has scored none, the first of all. In the order of pairs.jsonl."""
    limit = _limit(folder / "config.yaml")
    if not limit or not (folder / PAIRS).is_file():
        return []
    rewards = {str(row["id"]): row for row in _rows(folder / REWARDS, ("id", "chosen", "rejected"))}
    values = {str(row["id"]): row for row in _rows(folder / TOKEN_VALUES, ("id",))}
    pairs: list[ShownPair] = []
    for number, row in read_rows(folder / PAIRS):
        if len(pairs) == limit:
            break
        if not rewards or str(row.get("id")) in rewards:
            pairs.append(_pair(folder / PAIRS, number, row))
    for pair in pairs:
        _add_rewards(pair, rewards.get(pair.id, {}))
        _add_tokens(pair, values.get(pair.id, {}))
    found = disagreements([p.reward_margin for p in pairs], [p.margin for p in pairs])
    for pair, value in zip(pairs, found, strict=True):
        pair.disagreement = value
    return pairs


def _limit(config: Path) -> int:
    """How many pairs the run wants in its report; a config of an earlier version does not say."""
    default = Report().pairs
    try:
        said = parse_yaml(config.read_text("utf-8")) if config.is_file() else {}
        return int(said.get("report", {}).get("pairs", default))
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise DataError(config, f"not the config of a run ({error})", mend=MEND) from error


def _rows(file: Path, needed: tuple[str, ...]) -> Iterator[Row]:
    """A file that is not there, or that holds nothing, has no rows."""
    if not file.is_file() or not file.stat().st_size:
        return
    for number, row in read_rows(file):
        for name in needed:
            if name not in row:
                raise DataError(file, "missing", row=number, field=name, mend=MEND)
        yield row


def _pair(file: Path, number: int, row: Row) -> ShownPair:
    try:
        provenance = row.get("provenance") or {}
        return ShownPair(
            str(row["id"]),
            str(row["prompt_id"]),
            [(str(m["role"]), str(m["content"])) for m in row["prompt"]],
            str(row["chosen"][-1]["content"]),
            str(row["rejected"][-1]["content"]),
            (_number(row.get("chosen_score")), _number(row.get("rejected_score"))),
            str(row["source"]),
            (_text(provenance.get("chosen_model")), _text(provenance.get("rejected_model"))),
            _text(provenance.get("diagnosis")),
            (_text(row.get("chosen_critique")), _text(row.get("rejected_critique"))),
        )
    except KeyError as error:
        raise DataError(file, "missing", row=number, field=str(error.args[0]), mend=MEND) from error
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise DataError(file, f"not what a run writes there ({error})", row=number, mend=MEND) from error


def _add_rewards(pair: ShownPair, row: Row) -> None:
    chosen, rejected = _number(row.get("chosen")), _number(row.get("rejected"))
    pair.split, pair.without = _text(row.get("split")), _text(row.get("without"))
    if chosen is not None and rejected is not None:
        pair.rewards = chosen, rejected


def _add_tokens(pair: ShownPair, row: Row) -> None:
    """Values of another text, of which a run folder that was put together by hand may hold some, are left out."""
    pair.without_tokens = _text(row.get("without"))
    sides = [row.get("chosen"), row.get("rejected")]
    if all(_belongs(side, text) for side, text in zip(sides, (pair.chosen, pair.rejected), strict=True)):
        pair.tokens = sides[0], sides[1]  # type: ignore[assignment]


def _belongs(side: Any, text: str) -> bool:
    try:
        ends, values = side["ends"], side["values"]
        inside = all(isinstance(end, int) for end in ends) and (ends[-1] if ends else 0) == len(text)
        return inside and len(ends) == len(values) and all(_number(v) is not None for v in [*values, side["end"]])
    except (KeyError, TypeError, IndexError):
        return False


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def as_json(value: Any) -> bytes:
    """UTF-8; half characters, which that cannot hold, are written as JSON's escapes, which can."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")
