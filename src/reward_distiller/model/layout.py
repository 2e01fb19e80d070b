"""How sequences lie in one forward pass: as a forest of prefix trees in one row, or as rows padded on the right.

A forest holds each distinct token once: sequences share the slots of every prefix that they have in common,
whichever prompt they belong to. Slots are the places of hidden states, counted through all rows; where a
sequence's tokens lie is known from the start and never searched for. Knows no attention and no networks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """A run of tokens between two branchings: `length` slots from `start`, behind the segments of `path`.

    `depth` is the position of its first token, which is also the number of tokens on its path.
    """

    start: int
    length: int
    depth: int
    path: tuple[int, ...]  # indices of the segments above, the root first


@dataclass(frozen=True)
class Forest:
    """Segments in depth-first order, so that what stands below a token is the stretch of slots behind it."""

    segments: tuple[Segment, ...]

    @cached_property
    def slots(self) -> int:
        return sum(s.length for s in self.segments)

    def subtree_ends(self) -> Tensor:
        """For each slot (N,) the first slot that is no longer below it: k is seen from q if k <= q < end of k."""
        ends = [s.start + s.length for s in self.segments]
        for at in reversed(range(len(self.segments))):
            path = self.segments[at].path
            if path:
                ends[path[-1]] = max(ends[path[-1]], ends[at])
        lengths = torch.tensor([s.length for s in self.segments])
        return torch.repeat_interleave(torch.tensor(ends), lengths)


@dataclass(frozen=True)
class Layout:
    """Inputs of one forward pass (R rows, L slots each), and the slots of every sequence.

    `mask_RL` is None for a forest, `forest` is None for padded rows.
    """

    ids_RL: Tensor
    positions_RL: Tensor
    mask_RL: Tensor | None
    forest: Forest | None
    pieces: tuple[tuple[range, ...], ...]  # sequence -> the stretches of slots that hold its tokens, in order

    def slots_of(self, sequence: int) -> Tensor:
        """The slots (T,) of a sequence's tokens, on the CPU."""
        return torch.cat([torch.arange(p.start, p.stop) for p in self.pieces[sequence]])

    def ends(self) -> Tensor:
        """The slot (N,) of each sequence's last token, on the CPU."""
        return torch.tensor([pieces[-1].stop - 1 for pieces in self.pieces])

    def to(self, device: torch.device | str) -> Layout:
        mask = None if self.mask_RL is None else self.mask_RL.to(device)
        return Layout(self.ids_RL.to(device), self.positions_RL.to(device), mask, self.forest, self.pieces)


def common_prefix(a: Ids, b: Ids, start: int = 0) -> int:
    """How many leading tokens two sequences share, the first `start` of which are known to be equal."""
    stop = min(len(a), len(b))
    if a[start:stop] == b[start:stop]:
        return stop
    at = start
    while a[at] == b[at]:
        at += 1
    return at


def distinct_tokens(sequences: Sequence[Ids]) -> int:
    """The slots of a forest that holds these sequences."""
    line = sorted(sequences)
    return sum(map(len, line)) - sum(common_prefix(a, b) for a, b in itertools.pairwise(line))


def forest(sequences: Sequence[Ids]) -> Layout:
    """One row, each distinct token once, in an order that the sequences' ids alone decide."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i])
    line = [sequences[i] for i in order]
    segments: list[Segment] = []
    ids: list[int] = []
    positions: list[int] = []
    pieces: list[tuple[range, ...]] = [()] * len(line)
    # Sequences `low` to `high` of the line share their first `depth` tokens, which lie in the segments of `path`.
    open_parts: list[tuple[int, int, int, tuple[int, ...]]] = [(0, len(line), 0, ())]
    while open_parts:
        low, high, depth, path = open_parts.pop()
        shared = common_prefix(line[low], line[high - 1], depth)
        if shared > depth:
            segments.append(Segment(len(ids), shared - depth, depth, path))
            path = (*path, len(segments) - 1)
            ids.extend(line[low][depth:shared])
            positions.extend(range(depth, shared))
        while low < high and len(line[low]) == shared:  # the shorter sequence sorts first
            ranges = (range(segments[s].start, segments[s].start + segments[s].length) for s in path)
            pieces[order[low]] = tuple(ranges)
            low += 1
        branches = []
        while low < high:
            token, first = line[low][shared], low
            while low < high and line[low][shared] == token:
                low += 1
            branches.append((first, low, shared, path))
        open_parts.extend(reversed(branches))
    return Layout(torch.tensor([ids]), torch.tensor([positions]), None, Forest(tuple(segments)), tuple(pieces))


def lay_out(sequences: Sequence[Ids], kind: str, pad_id: int = 0) -> Layout:
    """A forest for `trees`, rows for `padded`. There any id does for padding: it is masked, no end is searched for."""
    return forest(sequences) if kind == "trees" else padded(sequences, pad_id)


def padded(sequences: Sequence[Ids], pad_id: int) -> Layout:
    """A row a sequence, padded on the right to the longest."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    positions = torch.arange(longest).expand(len(sequences), -1)
    pieces = tuple((range(row * longest, row * longest + len(s)),) for row, s in enumerate(sequences))
    return Layout(ids, positions, mask, None, pieces)


def cut_forests(sequences: Sequence[Ids], budget: int) -> list[list[int]]:
    """Indices in forests of at most `budget` slots (one sequence at least), neighbours in the order of their ids."""
    line = sorted(range(len(sequences)), key=lambda i: sequences[i])
    parts: list[list[int]] = []
    used = 0
    for before, at in zip([-1, *line], line, strict=False):
        fresh = len(sequences[at]) - (common_prefix(sequences[before], sequences[at]) if parts else 0)
        if not parts or used + fresh > budget:
            parts.append([])
            used, fresh = 0, len(sequences[at])
        parts[-1].append(at)
        used += fresh
    return parts


def cut_rows(sequences: Sequence[Ids], budget: int) -> list[list[int]]:
    """Indices in batches of like length, the longest first, each within `budget` padded slots."""
    parts: list[list[int]] = []
    for at in sorted(range(len(sequences)), key=lambda i: -len(sequences[i])):
        if not parts or (len(parts[-1]) + 1) * len(sequences[parts[-1][0]]) > budget:
            parts.append([])
        parts[-1].append(at)
    return parts
