"""The preview of one run, whatever its recipe."""

from __future__ import annotations

from reward_distiller.config import AnyRun, DataAndRewards, PseudoRewards, RLConfig
from reward_distiller.errors import ConfigError
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.preview.exchanges import Seen
from reward_distiller.recipes.preview.policies import preview_policy
from reward_distiller.recipes.preview.responses import preview_data_and_rewards, preview_responses
from reward_distiller.recipes.preview.reward_models import preview_reward_model


def preview(config: AnyRun, parts: Parts, count: int, *, ask: bool = False) -> list[Seen]:
    """What there is to show of the first `count` records, in the order of the steps.

    Writes nothing unless told to `ask`. Raises ConfigError where nobody is asked, or where that cannot be said yet.
    """
    if isinstance(config, DataAndRewards):
        return preview_data_and_rewards(config, parts, count, ask=ask)
    if isinstance(config, PseudoRewards):
        return preview_responses(config, parts, count, ask=ask)
    if isinstance(config, RLConfig):
        if ask:
            raise ConfigError("a policy's responses come of its training: there is nothing to ask before. Drop --ask")
        return preview_policy(config, parts, count)
    return preview_reward_model(config, parts, count, ask=ask)
