"""Bradley-Terry with the teacher's score margin in the logit (paper, equation 6; Touvron et al., 2023).

L = -log σ(r_w - r_l - γ),  γ = s_w - s_l
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, margin_bradley_terry


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan()


def stages(config: Config) -> tuple[Stage, ...]:
    return (Stage(Objective(margin_bradley_terry), Reading(scores=("overall",))),)


def describe(config: Config) -> str:
    return "Bradley-Terry with the teacher's score margin"


METHOD = Method("margin_bradley_terry", plan, stages, describe)
