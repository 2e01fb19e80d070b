"""What a method says of itself: what it wants constructed, and what it minimises. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.model.objectives import Objective


@dataclass(frozen=True)
class Method:
    """A way to distil. `describe` is the model card's sentence."""

    name: str
    plan: Callable[[Config], ConstructionPlan]
    objective: Callable[[Config], Objective]
    needs_margin: bool
    describe: Callable[[Config], str]
