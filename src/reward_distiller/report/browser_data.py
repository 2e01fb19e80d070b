"""Pairs as compressed data for a page: an index of all that lists and filters read, and blocks of texts.

The page inflates the index at once and a block when one of its pairs is shown or searched. Within a block each text
stands once, however many pairs share it. What does not fit the budget is left out and counted. Knows no markup.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_distiller.files import Row
from reward_distiller.report.browser_pairs import ShownPair, as_json

BLOCK = 150_000  # characters of text in a block, about: inflated in a few milliseconds, compressed nearly as well
SNIPPET = 90  # characters of a prompt in the list
DIGITS = 3  # of a reward behind the point
Group = list[ShownPair]


@dataclass(frozen=True)
class Embedded:
    """Base64 of deflated JSON; `pairs` are in it, and `left_out` are not."""

    index: str
    blocks: list[str]
    pairs: int
    left_out: int

    @property
    def size(self) -> int:
        return len(self.index) + sum(map(len, self.blocks))


def embed(pairs: Sequence[ShownPair], budget: int) -> Embedded:
    """All pairs in their order; where they take more than `budget` bytes, without the prompts that are agreed on most.

    The pairs of a prompt stay together, since they share their texts.
    """
    groups = list(_by_prompt(pairs).values())
    made = _embedded(groups, len(pairs))
    while made.size > budget and len(groups) > 1:
        groups = _within(groups, 0.95 * budget / made.size)
        made = _embedded(groups, len(pairs))
    return made


def _by_prompt(pairs: Sequence[ShownPair]) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    for pair in pairs:
        groups.setdefault(pair.prompt_id, []).append(pair)
    return groups


def _within(groups: list[Group], share: float) -> list[Group]:
    """Groups that make up a share of the text, those of the largest disagreement first; at least one, not all."""
    room = share * sum(map(_size, groups))
    kept: set[int] = set()
    for at in sorted(range(len(groups)), key=lambda at: (-max(p.disagreement or 0.0 for p in groups[at]), at)):
        room -= _size(groups[at])
        if kept and (room < 0 or len(kept) == len(groups) - 1):
            break
        kept.add(at)
    return [group for at, group in enumerate(groups) if at in kept]


def _size(group: Group) -> int:
    """Characters of the group's distinct texts."""
    return sum(map(len, {text for pair in group for text in _texts(pair) if text}))


def _texts(pair: ShownPair) -> list[str | None]:
    return [*(text for _, text in pair.prompt), pair.chosen, pair.rejected, pair.diagnosis, *pair.critiques]


def _embedded(groups: Sequence[Group], total: int) -> Embedded:
    blocks: list[list[ShownPair]] = []
    room = 0
    for group in groups:
        if room <= 0:
            blocks.append([])
            room = BLOCK
        blocks[-1].extend(group)
        room -= _size(group)
    pairs = [pair for block in blocks for pair in block]
    index = _packed(_index(pairs, [len(block) for block in blocks]))
    return Embedded(index, [_packed(_block(block)) for block in blocks], len(pairs), total - len(pairs))


def _packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(as_json(value), 9)).decode("ascii")


def _index(pairs: Sequence[ShownPair], sizes: Sequence[int]) -> Row:
    """Columns of values by pair; `sizes` are the numbers of pairs in each block."""
    sources = sorted({p.source for p in pairs})
    splits = sorted({p.split for p in pairs if p.split})
    return {
        "sizes": list(sizes),
        "sources": sources,
        "splits": splits,
        "scored": any(p.margin is not None for p in pairs),
        "columns": {
            "source": [sources.index(p.source) for p in pairs],
            "split": [splits.index(p.split) if p.split else -1 for p in pairs],
            "chosenScore": [_rounded(p.scores[0]) for p in pairs],
            "rejectedScore": [_rounded(p.scores[1]) for p in pairs],
            "teacher": [_rounded(p.margin) for p in pairs],
            "chosenReward": [_rounded(p.rewards and p.rewards[0]) for p in pairs],
            "rejectedReward": [_rounded(p.rewards and p.rewards[1]) for p in pairs],
            "model": [_rounded(p.reward_margin) for p in pairs],
            "disagreement": [_rounded(p.disagreement) for p in pairs],
            "length": [len(p.chosen) - len(p.rejected) for p in pairs],
            "tokens": [int(p.tokens is not None) for p in pairs],
        },
        "snippets": [_snippet(p) for p in pairs],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _snippet(pair: ShownPair) -> str:
    text = pair.prompt[-1][1] if pair.prompt else ""
    line = " ".join(text[: 4 * SNIPPET].split())
    return line if len(line) <= SNIPPET else line[:SNIPPET] + "…"


def _block(pairs: Sequence[ShownPair]) -> Row:
    """`texts`, and pairs that name them by their places; None stands for a text that is not there."""
    places: dict[str, int] = {}

    def at(text: str | None) -> int | None:
        return None if text is None else places.setdefault(text, len(places))

    rows: list[Row] = []
    for pair in pairs:
        row: Row = {
            "id": pair.id,
            "prompt": [[role, at(text)] for role, text in pair.prompt],
            "chosen": at(pair.chosen),
            "rejected": at(pair.rejected),
            "diagnosis": at(pair.diagnosis),
            "critiques": [at(text) for text in pair.critiques],
            "models": list(pair.models),
            "without": pair.without,
            "withoutTokens": pair.without_tokens,
        }
        if pair.tokens:
            row["tokens"] = [_along(s, t) for s, t in zip(pair.tokens, (pair.chosen, pair.rejected), strict=True)]
        rows.append({name: value for name, value in row.items() if value not in (None, [None, None])})
    return {"texts": list(places), "pairs": rows}


def _along(side: Row, text: str) -> Row:
    """`lengths` of the pieces are in UTF-16 units, in which the page counts."""
    starts = [0, *side["ends"]]
    lengths = [_units(text[start:end]) for start, end in zip(starts, side["ends"], strict=False)]
    values = [round(value, DIGITS) for value in side["values"]]
    return {"opening": side.get("opening"), "lengths": lengths, "values": values, "end": side["end"]}


def _units(text: str) -> int:
    return len(text) + sum(ord(c) > 0xFFFF for c in text)
