"""LSAM: Bradley-Terry on labels that the teacher's margin softens (paper, equation 8; Wang et al., 2024).

L = -ε log p - (1 - ε) log(1 - p),  p = σ(r_w - r_l),  ε = σ(s_w - s_l)
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, lsam


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan()


def stages(config: Config) -> tuple[Stage, ...]:
    return (Stage(Objective(lsam), Reading(scores=("overall",))),)


def describe(config: Config) -> str:
    return "LSAM: Bradley-Terry with labels softened by the teacher's score margin"


METHOD = Method("lsam", plan, stages, describe)
