"""Scorers that read nothing of the prompt: what a benchmark gives to the length of a response, and to chance."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reward_distiller.evaluate.answers import Answer, Rewards
from reward_distiller.evaluate.benchmarks.protocol import Example


@dataclass(frozen=True)
class Length:
    """The reward is the number of characters."""

    @property
    def identity(self) -> dict[str, Any]:
        return {"baseline": "length"}

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        return [_each(example, len, advance) for example in examples]


@dataclass(frozen=True)
class Random:
    """A reward from 0 to 1 that only prompt, response and seed decide, so that equal responses are equal."""

    seed: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        return {"baseline": "random", "seed": self.seed}

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        def draw(prompt: str, text: str) -> float:
            digest = hashlib.sha256(f"{self.seed}:{prompt}:{text}".encode()).digest()
            return int.from_bytes(digest[:8], "big") / 2**64

        return [_each(e, lambda text, at=e.prompt.id: draw(at, text), advance) for e in examples]  # type: ignore[misc]


def _each(example: Example, reward: Callable[[str], float], advance: Callable[[], None]) -> Answer:
    for _ in example.responses:
        advance()
    return Rewards(tuple(float(reward(text)) for text in example.responses))
