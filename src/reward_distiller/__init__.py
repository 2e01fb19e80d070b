"""Reward Distiller: turn a generative LLM into a reward model, and prove how good it is."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reward_distiller.model.reward_model import RewardModel

__all__ = ["RewardModel", "__version__"]
__version__ = version("reward-distiller")


def __getattr__(name: str) -> Any:
    """Import torch only for those who score: building data sets needs none."""
    if name == "RewardModel":
        from reward_distiller.model.reward_model import RewardModel

        return RewardModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
