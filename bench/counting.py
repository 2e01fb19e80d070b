"""What a block costs by counting: distinct tokens, keys attended to, LM-head tokens, floating-point operations.

A forest holds every distinct token once; a token at depth d attends to d + 1 keys. Forward and backward (a third of it
forward alone) cost

    6 · N · tokens                   N parameters of the backbone without embeddings: 2 forward, 4 backward
    12 · layers · hidden · keys      keys summed over the tokens: q·k and its use are 4 forward, 8 backward
    6 · V · D · head                 teacher tokens that the LM head predicts

No recomputation, no optimizer: model operations, not the machine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Ids = Sequence[int]


@dataclass(frozen=True)
class Work:
    tokens: int = 0
    attended: int = 0  # keys, summed over the tokens
    head: int = 0  # tokens that the LM head predicts

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.attended + other.attended, self.head + other.head)


@dataclass(frozen=True)
class Shape:
    """What the formula needs to know of a model."""

    parameters: int  # of the backbone, without embeddings
    layers: int
    hidden: int
    vocabulary: int

    def flops(self, work: Work, *, training: bool = True) -> float:
        passes = 3 if training else 1
        body = 2 * self.parameters * work.tokens + 4 * self.layers * self.hidden * work.attended
        return float(passes * (body + 2 * self.vocabulary * self.hidden * work.head))


def separate(sequences: Iterable[Ids], head: int = 0) -> Work:
    """Every sequence computed for itself, without padding."""
    lengths = [len(s) for s in sequences]
    return Work(sum(lengths), sum(n * (n + 1) // 2 for n in lengths), head)


def distinct(sequences: Iterable[Ids], head: int = 0) -> Work:
    """Every distinct token once: of neighbours in lexical order, what the second does not share with the first."""
    tokens = attended = 0
    before: Ids = ()
    for sequence in sorted(tuple(s) for s in sequences):
        shared = 0
        for a, b in zip(before, sequence, strict=False):
            if a != b:
                break
            shared += 1
        tokens += len(sequence) - shared
        attended += len(sequence) * (len(sequence) + 1) // 2 - shared * (shared + 1) // 2
        before = sequence
    return Work(tokens, attended, head)
