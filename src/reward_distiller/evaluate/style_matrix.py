"""RM-Bench's metric: the 3 x 3 matrix of chosen style by rejected style (Liu et al., 2025).

Styles run from plain to ornate. `hard` is the upper-right triangle (a plain right answer against an
ornate wrong one), `normal` the diagonal, `easy` the lower-left; a tie is a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reward_distiller.evaluate.statistics import Figure, percent
from reward_distiller.records import Prompt


@dataclass(frozen=True)
class StyleItem:
    """One prompt with its chosen and rejected responses, each in three styles from plain to ornate."""

    prompt: Prompt
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]


def style_accuracy(
    items: Sequence[StyleItem], score: Callable[[Sequence[tuple[Prompt, Sequence[str]]]], list[list[float]]]
) -> dict[str, Figure]:
    """Accuracies in percent with intervals over prompts, and their plain mean as `average`."""
    rewards = score([(item.prompt, (*item.chosen, *item.rejected)) for item in items])
    chosen = np.array([row[:3] for row in rewards])
    rejected = np.array([row[3:] for row in rewards])
    wins = (chosen[:, :, None] > rejected[:, None, :]).astype(float)  # items, chosen style, rejected style
    upper, lower = np.triu_indices(3, 1), np.tril_indices(3, -1)
    parts = {
        "easy": wins[:, lower[0], lower[1]].mean(1),
        "normal": wins[:, range(3), range(3)].mean(1),
        "hard": wins[:, upper[0], upper[1]].mean(1),
    }
    parts["average"] = sum(parts.values()) / 3
    return {name: percent(values.tolist()) for name, values in parts.items()}
