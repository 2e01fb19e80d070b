"""Where two responses that differ in a few edits stand at the same place, and how much of the edits lies behind it.

Token sequences are aligned by Levenshtein's distance: what is equal in both is paired token by token. Knows no rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein


class Place(NamedTuple):
    """A token of the chosen and one of the rejected sequence, and the share of all edited tokens up to them."""

    chosen: int
    rejected: int
    share: float


def aligned_places(chosen: Sequence[int], rejected: Sequence[int]) -> tuple[Place, ...]:
    """The places from the end of the first edit on, in order, without the last one, where both sequences end.

    An edit has one place, at the last tokens of its two sides: inside it nothing is aligned. Before the first edit the
    sequences are the same, and so is whatever is read there.
    """
    edits = [
        (e, max(e.src_end - e.src_start, e.dest_end - e.dest_start)) for e in Levenshtein.opcodes(rejected, chosen)
    ]
    edited = sum(size for edit, size in edits if edit.tag != "equal")
    places: list[Place] = []
    done = 0
    for edit, size in edits:
        if edit.tag != "equal":
            done += size
            if min(edit.src_end, edit.dest_end) > 0:  # else one side has no token yet
                places.append(Place(edit.dest_end - 1, edit.src_end - 1, done / edited))
        elif done:
            places += [Place(edit.dest_start + i, edit.src_start + i, done / edited) for i in range(size)]
    return tuple(p for p in places if (p.chosen, p.rejected) != (len(chosen) - 1, len(rejected) - 1))
