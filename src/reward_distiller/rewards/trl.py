"""Reward functions for TRL's trainers (`reward_funcs`): from a server, or in the trainer's own process.

TRL calls them with `prompts` and `completions`, both texts or both lists of messages, and more that is not read here. A
prompt that is a text is taken as the user's turn. Completions of one prompt stand together, and are asked for at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from reward_distiller.errors import DataError
from reward_distiller.rewards.client import Prompt, RewardClient

if TYPE_CHECKING:
    from reward_distiller.model.reward_model import RewardModel

Rows = list[tuple[Prompt, list[str]]]


def http_reward(url: str, *, name: str = "reward", **options: Any) -> Callable[..., Awaitable[list[float]]]:
    """A coroutine function that asks a server. `options` are RewardClient's; `name` is what TRL's logs call it."""
    client = RewardClient(url, **options)

    async def reward(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        found = await client.rewards_of_rows(rows_of(prompts, completions))
        return [value for row in found for value in row]

    reward.__name__ = name
    return reward


def local_reward(model: str | RewardModel, *, name: str = "reward", **options: Any) -> Callable[..., list[float]]:
    """A function that scores here. `model` is loaded, or a folder or Hub id; `options` are `from_pretrained`'s."""
    from reward_distiller.model.reward_model import RewardModel

    loaded = model if isinstance(model, RewardModel) else RewardModel.from_pretrained(model, **options)

    def reward(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
        return [value for row in loaded.score_rows(rows_of(prompts, completions)) for value in row]

    reward.__name__ = name
    return reward


def rows_of(prompts: Sequence[Any], completions: Sequence[Any]) -> Rows:
    """Neighbours with the same prompt in one row, in order. Raises DataError for what is no text and no messages."""
    rows: Rows = []
    for number, (prompt, completion) in enumerate(zip(prompts, completions, strict=True), 1):
        match completion:
            case str() as text:
                before: Prompt = prompt
            case [*turns, {"role": "assistant", "content": str() as text}]:
                first = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
                before = [*first, *turns]
            case _:
                mend = "Give a text, or messages that end with the assistant's"
                raise DataError("completions", "neither a text nor an assistant's message", row=number, mend=mend)
        if not rows or rows[-1][0] != before:
            rows.append((before, []))
        rows[-1][1].append(text)
    return rows
