"""Plain Bradley-Terry distillation: the teacher as a binary annotator (paper, section 2.1, equation 1)."""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.objectives import Objective, bradley_terry


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan()


def stages(config: Config) -> tuple[Stage, ...]:
    return (Stage(Objective(bradley_terry)),)


def describe(config: Config) -> str:
    return "Bradley-Terry on the teacher's preferences"


METHOD = Method("bradley_terry", plan, stages, describe)
