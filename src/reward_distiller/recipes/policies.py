"""The policy that a config names: where it lies, and opened. Knows no training and no sampling."""

from __future__ import annotations

from pathlib import Path

import torch

from reward_distiller.config import Policy as PolicySettings
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.store import TESTBED, Store
from reward_distiller.rl.policy import Policy


def policy_path(settings: PolicySettings, parts: Parts, store: Store) -> str:
    if settings.made_by is not None:
        return str(Path(store.made(settings.made_by).output) / "model")
    return str(parts.student()) if settings.model == TESTBED else str(settings.model)


def open_policy(
    settings: PolicySettings,
    path: str,
    limit: int,
    *,
    device: torch.device,
    temperature: float = 1.0,
    top_p: float = 1.0,
    precision: str = "fp32",
) -> Policy:
    """The policy of a path, loaded as the settings say."""
    return Policy.from_pretrained(
        path,
        limit,
        temperature=temperature,
        top_p=top_p,
        precision=precision,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
        chat_template=settings.chat_template,
        device=device,
    )
