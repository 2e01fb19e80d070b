"""How well a generative judge tells pairs apart: accuracy, consistency and position bias of its verdicts.

A judge is shown each pair in its own order, and in the other one too where that was asked for. `single` and `pair` are
the average and the both-orders accuracy of LLMBar (Zeng et al., 2024), `agreement` is its positional agreement rate,
`judgebench` the rule of JudgeBench (Tan et al., 2025). Knows no judge and no prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from reward_distiller.evaluate.metrics import Metric, mean

Verdict = Literal["first", "second", "tie"]
OTHER: dict[Verdict, Verdict] = {"first": "second", "second": "first", "tie": "tie"}


@dataclass(frozen=True)
class Judged:
    """A pair and a judge's verdicts on it, both in terms of the pair's own order; None where none could be read.

    `first` is the verdict with the pair shown in its own order, `swapped` that with the second response shown first.
    """

    id: str
    label: Verdict
    first: Verdict | None
    swapped: Verdict | Literal["not asked"] | None = "not asked"

    @property
    def verdicts(self) -> list[Verdict | None]:
        """One or two: of the orders that were asked for."""
        return [self.first] if self.swapped == "not asked" else [self.first, self.swapped]

    @property
    def right(self) -> list[bool]:
        return [verdict == self.label for verdict in self.verdicts]

    @property
    def shown_first(self) -> list[bool]:
        """Of each verdict for one of the two responses: is it for the one that was shown first?"""
        shown: list[Verdict] = ["first", "second"]
        return [
            verdict == place
            for verdict, place in zip(self.verdicts, shown, strict=False)
            if verdict in ("first", "second")
        ]


def metrics(judged: Sequence[Judged]) -> dict[str, Metric]:
    """Each a mean over pairs. Those of two orders are over the pairs that were asked in both, where there are any.

    `single`: accuracy, over the orders of a pair; `pair`: right in both orders; `agreement`: the same verdict in both;
    `first_shown`: share, among the verdicts for one of the two, of those for the response shown first (one half in a
    judge that order means nothing to); `no_verdict`: share that could not be read, which is wrong everywhere else;
    `judgebench`: more verdicts for the label than for its opposite.
    """
    both = [j for j in judged if len(j.verdicts) == 2]
    values = {
        "single": {j.id: float(np.mean(j.right)) for j in judged},
        "pair": {j.id: float(all(j.right)) for j in both},
        "agreement": {j.id: float(j.first is not None and j.first == j.swapped) for j in both},
        "first_shown": {j.id: float(np.mean(j.shown_first)) for j in judged if j.shown_first},
        "no_verdict": {j.id: float(np.mean([verdict is None for verdict in j.verdicts])) for j in judged},
        "judgebench": {j.id: float(_lead(j) > 0) for j in judged},
    }
    return {name: mean(of_pairs) for name, of_pairs in values.items() if of_pairs}


def _lead(judged: Judged) -> int:
    """Verdicts for the label less those for its opposite; a tie and none count for neither (unless a tie is right)."""
    return sum(
        1 if verdict == judged.label else -1 if verdict == OTHER[judged.label] else 0 for verdict in judged.verdicts
    )


def macro(labels: Sequence[Verdict], verdicts: Sequence[Verdict | None]) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as plain means over the kinds of label that occur.

    A verdict that could not be read is no label's, so it costs recall alone.
    """
    parts = []
    for label in sorted(set(labels)):
        hits = sum(a == b == label for a, b in zip(labels, verdicts, strict=True))
        given, true = sum(v == label for v in verdicts), sum(x == label for x in labels)
        parts.append((hits / given if given else 0.0, hits / true, 2 * hits / (given + true)))
    precision, recall, f1 = (float(x) for x in np.mean(parts, axis=0))
    accuracy = sum(a == b for a, b in zip(labels, verdicts, strict=True)) / len(labels)
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Cohen's kappa: agreement beyond chance, (p_o - p_e) / (1 - p_e). NaN where both give one answer throughout."""
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    counts_a, counts_b = Counter(a), Counter(b)
    chance = sum(counts_a[answer] * counts_b[answer] for answer in counts_a) / len(a) ** 2
    return float("nan") if chance == 1 else (observed - chance) / (1 - chance)


@dataclass(frozen=True)
class Agreement:
    """Of two annotators: the share of items that they label alike, and Cohen's kappa."""

    share: float
    kappa: float


def between(annotators: Mapping[str, Sequence[Hashable]]) -> dict[tuple[str, str], Agreement]:
    """Agreement of each two annotators, who labelled the same items in the same order."""
    return {
        (one, other): Agreement(float(np.mean([x == y for x, y in zip(a, b, strict=True)])), kappa(a, b))
        for (one, a), (other, b) in combinations(annotators.items(), 2)
    }
