"""SynRM: the reward is read behind the teacher's critique, in training and at inference (paper, A.3; Ye et al., 2025).

    L = -log σ(r(x, y_w, c_w) - r(x, y_l, c_l)),  c from the teacher

So a model of this method scores nothing without a source of critiques.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.critiques import CritiqueNeed
from reward_distiller.model.objectives import Objective, bradley_terry


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan(critiques=True)


def stages(config: Config) -> tuple[Stage, ...]:
    return (Stage(Objective(bradley_terry), Reading(request=config.synrm.request)),)


def needs(config: Config) -> CritiqueNeed:
    return CritiqueNeed("teacher", config.synrm.request)


def describe(config: Config) -> str:
    return "SynRM: Bradley-Terry on responses followed by the teacher's critiques"


METHOD = Method("synrm", plan, stages, describe, needs)
