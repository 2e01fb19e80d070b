"""The reward of one response in a verl worker: the terms of an emitted rewards.json, servers from the environment."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reward_distiller.config import RewardTerm
from reward_distiller.errors import ConfigError
from reward_distiller.rewards.client import TOKEN
from reward_distiller.rewards.verl import prompt_of
from reward_distiller.rl.reward import Reward, build_reward
from reward_distiller.rl.terms import Opened, Sample

Score = Callable[..., Awaitable[dict[str, float]]]


def score_function(path: Path) -> Score:
    """verl's coroutine function: `score` is the sum, and each term stands beside it under its name.

    The prompt and the row of the data come in `extra_info`, as `reward_distiller.rl.emit.data` writes them.
    """

    @cache
    def reward() -> Reward:
        settings = json.loads(path.read_text("utf-8"))
        return build_reward(
            {n: _term(n, t) for n, t in settings["terms"].items()}, settings["limit"], Opened(_here, _here, _here)
        )

    def score(solution_str: str, extra_info: Any) -> dict[str, float]:
        prompt = prompt_of(extra_info)
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        row = json.loads(extra_info.get("row") or "{}")
        found = reward()([Sample(tuple(messages), solution_str, 0, True, row)])
        return {"score": found.total[0], **{name: values[0] for name, values in found.terms.items()}}

    async def compute_score(
        data_source: str, solution_str: str, ground_truth: Any = None, extra_info: Any = None, **_: Any
    ) -> dict[str, float]:
        return await asyncio.to_thread(score, solution_str, extra_info)

    return compute_score


def _term(name: str, settings: Mapping[str, Any]) -> RewardTerm:
    given = dict(settings)
    if variable := given.pop("url_from", None):
        if not os.environ.get(variable):
            raise ConfigError(f"the environment variable {variable} is not set. Set it to the server of {name}")
        given["url"] = os.environ[variable]
        given["token_env"] = TOKEN if os.environ.get(TOKEN) else None
    return RewardTerm.model_validate(given)


def _here(*_: Any) -> Any:
    raise ConfigError("a worker loads no reward model and asks no judge. Serve the reward, and name its url")
