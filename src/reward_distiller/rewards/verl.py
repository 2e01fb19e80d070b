"""verl's custom reward function. This file is the one to name:

    custom_reward_function.path=THIS FILE  custom_reward_function.name=compute_score

The server is that of REWARD_DISTILLER_URL, with the token in REWARD_DISTILLER_TOKEN. verl hands a reward function the
response without its prompt, so the data set's `extra_info` must hold it, as `prompt`: a text, or messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

from reward_distiller.errors import DataError
from reward_distiller.rewards.client import Prompt, RewardClient


@cache
def _client() -> RewardClient:
    return RewardClient.from_environment()


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any = None, extra_info: Any = None, **_: Any
) -> float:
    """The raw reward of one response. verl's workers call it from several threads."""
    return _client().rewards(prompt_of(extra_info), [solution_str])[0]


async def compute_score_async(
    data_source: str, solution_str: str, ground_truth: Any = None, extra_info: Any = None, **_: Any
) -> float:
    """The same as a coroutine function, for the reward managers that await it."""
    return await asyncio.to_thread(compute_score, data_source, solution_str, ground_truth, extra_info)


def prompt_of(extra_info: Any) -> Prompt:
    """Messages come out of Parquet as an array of objects. Raises DataError where there is no prompt."""
    prompt: Any = extra_info.get("prompt") if isinstance(extra_info, Mapping) else None
    if hasattr(prompt, "tolist"):
        prompt = prompt.tolist()
    match prompt:
        case str():
            return prompt
        case [*turns] if turns and all(isinstance(turn, Mapping) for turn in turns):
            return [{"role": turn.get("role"), "content": turn.get("content")} for turn in turns]
    mend = "Put it there where the data set is made: a text, or messages that end with the user's turn"
    raise DataError("verl's data set", "no prompt", field="extra_info.prompt", mend=mend)
