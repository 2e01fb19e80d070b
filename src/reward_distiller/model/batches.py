"""Pairs as token sequences, in optimizer steps of a fixed number of pairs and micro-batches of bounded size.

The unit is a prompt: its pairs stand together, a sequence that several of them share (the rejected
response of a sampled and of a refined pair, the teacher's response) is computed once. Knows no losses.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reward_distiller.errors import TrainingError
from reward_distiller.model.chat import ChatFormat, Encoded
from reward_distiller.records import Pair


@dataclass(frozen=True)
class EncodedPair:
    id: str
    prompt_id: str
    chosen: Encoded
    rejected: Encoded
    margin: float
    teacher: Encoded | None


@dataclass
class Group:
    """A prompt's part of a step: distinct sequences, and pairs as indices into them."""

    sequences: list[Encoded] = field(default_factory=list)
    pairs: list[tuple[int, int, float]] = field(default_factory=list)
    pair_ids: list[str] = field(default_factory=list)
    teachers: Counter[int] = field(default_factory=Counter)  # teacher response -> pairs of this step it stands for

    def index(self, sequence: Encoded) -> int:
        """The place of a sequence; the supervised twin of an equal one replaces it."""
        for at, known in enumerate(self.sequences):
            if known.ids == sequence.ids:
                if sequence.response:
                    self.sequences[at] = sequence
                return at
        self.sequences.append(sequence)
        return len(self.sequences) - 1

    def slots(self) -> int:
        return len(self.sequences) * max(len(s) for s in self.sequences)


def encode_pairs(
    pairs: Sequence[Pair], chat: ChatFormat, max_length: int, *, needs_margin: bool, wants_teacher: bool
) -> tuple[list[EncodedPair], Counter[str]]:
    """Encode pairs; drop and count what is too long to be read whole. Raises TrainingError for a missing margin."""
    encoded = []
    dropped: Counter[str] = Counter()
    for pair in pairs:
        if needs_margin and pair.margin is None:
            raise TrainingError(
                f"pair {pair.id} has no scores, and the method needs a margin. Add chosen_score and rejected_score"
            )
        messages = pair.prompt.as_dicts()
        chosen, rejected = (chat.encode(messages, r) for r in (pair.chosen, pair.rejected))
        teacher = None
        if wants_teacher and pair.teacher_response is not None:
            teacher = chat.encode(messages, pair.teacher_response, supervised=True)
        if max(len(chosen), len(rejected)) > max_length:
            dropped[f"longer than max_length={max_length}"] += 1
        elif chosen.ids == rejected.ids:
            dropped["equal token sequences"] += 1
        else:
            if teacher is not None and len(teacher) > max_length:
                dropped["teacher response left out: too long"] += 1
                teacher = None
            encoded.append(EncodedPair(pair.id, pair.prompt.id, chosen, rejected, pair.margin or 0.0, teacher))
    return encoded, dropped


def plan_steps(pairs: Sequence[EncodedPair], pairs_per_step: int, epochs: int, seed: int) -> list[list[Group]]:
    """The groups of every optimizer step; prompts are shuffled anew in each epoch, by the seed alone."""
    by_prompt: dict[str, list[EncodedPair]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.prompt_id, []).append(pair)
    steps = []
    for epoch in range(epochs):
        prompts = sorted(by_prompt)
        random.Random(f"order:{seed}:{epoch}").shuffle(prompts)
        line = [pair for prompt in prompts for pair in by_prompt[prompt]]
        for start in range(0, len(line), pairs_per_step):
            steps.append(_groups(line[start : start + pairs_per_step]))
    return steps


def _groups(pairs: Iterable[EncodedPair]) -> list[Group]:
    groups: dict[str, Group] = {}
    for pair in pairs:
        group = groups.setdefault(pair.prompt_id, Group())
        group.pairs.append((group.index(pair.chosen), group.index(pair.rejected), pair.margin))
        group.pair_ids.append(pair.id)
        if pair.teacher is not None:
            group.teachers[group.index(pair.teacher)] += 1
    return list(groups.values())


def micro_batches(groups: Sequence[Group], budget: int) -> list[list[Group]]:
    """Groups of like length together, each batch within `budget` slots of a padded rectangle (one group at least)."""
    batches: list[list[Group]] = []
    rows, width = 0, 0
    for group in sorted(groups, key=lambda g: max(len(s) for s in g.sequences)):
        longest = max(len(s) for s in group.sequences)
        if not batches or (rows + len(group.sequences)) * max(width, longest) > budget:
            batches.append([])
            rows, width = 0, 0
        batches[-1].append(group)
        rows, width = rows + len(group.sequences), max(width, longest)
    return batches


@dataclass(frozen=True)
class Rectangle:
    """Sequences padded on the right: ids and mask (N, L), and the index of each one's last token (N,)."""

    ids_NL: Tensor
    mask_NL: Tensor
    end_N: Tensor


def pad(sequences: Sequence[Encoded], pad_id: int, device: torch.device | str) -> Rectangle:
    longest = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence.ids)
        mask[row, : len(sequence)] = 1
    ends = torch.tensor([len(s) - 1 for s in sequences])
    return Rectangle(ids.to(device), mask.to(device), ends.to(device))


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices in batches of like length, the longest first, each within `budget` padded slots."""
    batches: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > budget:
            batches.append([])
        batches[-1].append(at)
    return batches
