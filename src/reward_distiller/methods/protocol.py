"""What a method says of itself: what it wants constructed, minimises, and reads at inference. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.model.batches import Reading
from reward_distiller.model.critiques import CritiqueNeed
from reward_distiller.model.objectives import Objective


@dataclass(frozen=True)
class Stage:
    """One training: its loss and what that reads of a pair. What is None is as `training` in the config says.

    With `own_critiques` the network, as the stage before left it, writes the critiques that this one reads.
    """

    objective: Objective
    reading: Reading = field(default_factory=Reading)
    name: str = "train"
    epochs: int | None = None
    learning_rate: float | None = None
    own_critiques: bool = False


def _nothing(config: Config) -> None:
    return None


@dataclass(frozen=True)
class Method:
    """A way to distil. `describe` is the model card's sentence; `needs` is what scoring needs beside the response."""

    name: str
    plan: Callable[[Config], ConstructionPlan]
    stages: Callable[[Config], tuple[Stage, ...]]
    describe: Callable[[Config], str]
    needs: Callable[[Config], CritiqueNeed | None] = _nothing
