"""The policy that a config names: where it lies, its chat format, and opened. Knows no training and no sampling."""

from __future__ import annotations

from pathlib import Path

import torch

from reward_distiller.config import Policy as PolicySettings
from reward_distiller.config import RLConfig
from reward_distiller.errors import ConfigError
from reward_distiller.model.chat import ChatFormat, load_chat
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.store import TESTBED, Store
from reward_distiller.rl.policy import Policy


def policy_path(settings: PolicySettings, parts: Parts, store: Store) -> str:
    if settings.made_by is not None:
        return str(Path(store.made(settings.made_by).output) / "model")
    return str(parts.student()) if settings.model == TESTBED else str(settings.model)


def policy_chat(settings: PolicySettings, parts: Parts, store: Store) -> ChatFormat:
    """Its tokenizer and chat template; of a policy that is still to be trained, those of the one it starts from."""
    template = settings.chat_template
    while settings.made_by is not None:
        run = store.made(settings.made_by)
        if not isinstance(run, RLConfig):
            raise ConfigError(f"policy.made_by: a run of recipe {run.recipe} trains no policy. Name one of recipe rl")
        settings = run.policy
        template = template or settings.chat_template
    if settings.model == TESTBED:
        return ChatFormat(parts.student_tokenizer(), TESTBED)
    return load_chat(
        str(settings.model),
        template=template,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )


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
