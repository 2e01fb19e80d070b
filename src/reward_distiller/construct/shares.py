"""Prompts cut into shares by their ids: all of a prompt stays together, and a prompt's share depends on nothing else.

Knows no machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reward_distiller.records import Pair, Prompt


@dataclass(frozen=True)
class Share:
    """One of `count` shares; `number` from 0."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise ValueError(f"share {self.number} of {self.count}")

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return [prompt for prompt in prompts if self._has(prompt)]

    def pairs(self, pairs: Sequence[Pair]) -> list[Pair]:
        return [pair for pair in pairs if self._has(pair.prompt)]

    def _has(self, prompt: Prompt) -> bool:
        return int(prompt.id, 16) % self.count == self.number
