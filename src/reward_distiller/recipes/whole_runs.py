"""One run of any recipe: how it is checked before anything is paid for, and how it is done."""

from __future__ import annotations

from typing import Any

from reward_distiller.config import AnyRun, DataAndRewards, PseudoRewards, RLConfig
from reward_distiller.recipes import data_and_rewards, policy, pseudo_rewards, reward_model
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.store import store_of


def check_run(config: AnyRun, parts: Parts) -> None:
    """Find out what would stop the run, or one that it is made of."""
    if isinstance(config, DataAndRewards):
        store = store_of(config)
        for made in config.made.values():
            check_run(store.made(made), parts)
    elif isinstance(config, RLConfig):
        policy.check_policy_run(config, parts)
    elif isinstance(config, PseudoRewards):
        pseudo_rewards.check_pseudo_rewards(config, parts)
    else:
        reward_model.check_run(config, parts)


def do_run(config: AnyRun, parts: Parts) -> dict[str, Any]:
    """Do the whole run, what it stands on first; give what results.json holds."""
    if isinstance(config, DataAndRewards):
        check_run(config, parts)
        return data_and_rewards.run_data_and_rewards(config)
    if isinstance(config, RLConfig):
        return policy.run_policy(config, parts)
    if isinstance(config, PseudoRewards):
        return pseudo_rewards.run_pseudo_rewards(config, parts)
    return reward_model.run(config, parts)
