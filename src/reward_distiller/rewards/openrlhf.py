"""OpenRLHF's reward function: name this file as --reward.remote_url (or .../get_reward of a server).

The server is that of REWARD_DISTILLER_URL, with the token in REWARD_DISTILLER_TOKEN; OpenRLHF itself sends no token.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from reward_distiller.rewards.client import RewardClient, finite


@cache
def _client() -> RewardClient:
    return RewardClient.from_environment("/get_reward")


def reward_func(queries: list[str], prompts: list[Any], labels: list[Any], **_: Any) -> dict[str, Any]:
    """`rewards` and `scores` as tensors (N,). Queries are whole chats, in the reward model's own template."""
    import torch

    client = _client()
    answer = client.post({"query": list(queries)})
    values = {key: finite(answer.get(key), len(queries), client.url) for key in ("rewards", "scores")}
    return {**{key: torch.tensor(found) for key, found in values.items()}, "extra_logs": {}}
