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

TRIANGLES = {  # level -> (chosen styles, rejected styles)
    "easy": np.tril_indices(3, -1),
    "normal": np.diag_indices(3),
    "hard": np.triu_indices(3, 1),
}


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
    rewards_NR = np.array(rewards)
    wins = (rewards_NR[:, :3, None] > rewards_NR[:, None, 3:]).astype(float)  # items, chosen style, rejected style
    parts = {level: wins[:, chosen, rejected].mean(1) for level, (chosen, rejected) in TRIANGLES.items()}
    parts["average"] = sum(parts.values()) / 3
    return {name: percent(values.tolist()) for name, values in parts.items()}
