"""What the pair loss reads of a micro-batch: rewards at which slots, against which scores, weighing how much.

A pair is compared where its two sequences end. One whose responses are aligned (`alignment.py`) is compared at those
places as well, each against the share of its margin that the edits up to there account for.
Knows no networks and no losses. Shapes: N slots, C comparisons, A attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reward_distiller.model.batches import EncodedPair, Group
from reward_distiller.model.layout import Layout

Scores = tuple[float, ...]


@dataclass
class Comparisons:
    """The comparisons at the ends of `pairs` come first, in their order; `chosen_C` and `rejected_C` index `slot_N`."""

    slot_N: Tensor
    pairs: list[EncodedPair] = field(default_factory=list)
    chosen_C: list[int] = field(default_factory=list)
    rejected_C: list[int] = field(default_factory=list)
    chosen_scores_CA: list[Scores] = field(default_factory=list)
    rejected_scores_CA: list[Scores] = field(default_factory=list)
    weight_C: list[float] = field(default_factory=list)

    def add(self, chosen: int, rejected: int, chosen_scores: Scores, rejected_scores: Scores, weight: float) -> None:
        self.chosen_C.append(chosen)
        self.rejected_C.append(rejected)
        self.chosen_scores_CA.append(chosen_scores)
        self.rejected_scores_CA.append(rejected_scores)
        self.weight_C.append(weight)


def comparisons(groups: Sequence[Group], layout: Layout, aligned_weight: float) -> Comparisons:
    """All comparisons of a micro-batch whose groups' sequences lie in `layout` one after the other.

    A pair's weight is shared: `aligned_weight` of it by its places, the rest for its end, which has all where there
    are no places.
    """
    found = Comparisons(layout.ends())
    inside: list[Tensor] = []
    aligned: list[EncodedPair] = []
    first = 0
    for group in groups:
        for w, l, pair in group.pairs:
            found.pairs.append(pair)
            at_end = 1 - aligned_weight if pair.places else 1.0
            found.add(first + w, first + l, pair.chosen_scores, pair.rejected_scores, at_end * pair.weight)
            if pair.places:
                aligned.append(pair)
                inside.append(layout.slots_of(first + w)[[place.chosen for place in pair.places]])
                inside.append(layout.slots_of(first + l)[[place.rejected for place in pair.places]])
        first += len(group.sequences)
    at = len(found.slot_N)
    for pair in aligned:
        count = len(pair.places)
        for number, place in enumerate(pair.places):
            partly = tuple(
                l + place.share * (w - l) for w, l in zip(pair.chosen_scores, pair.rejected_scores, strict=True)
            )
            weight = aligned_weight * pair.weight / count
            found.add(at + number, at + count + number, partly, pair.rejected_scores, weight)
        at += 2 * count
    found.slot_N = torch.cat([found.slot_N, *inside])
    return found
