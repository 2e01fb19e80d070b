"""RMBoost: the teacher makes its own response better or worse (paper, A.3, prompt D.5; Shen et al., 2025).

The label follows from the direction, along drawn aspects, that the teacher was given: nobody is asked which response is
better. L = -log σ(r_w - r_l).
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.construct.rewrite import Rewriting
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.objectives import Objective, bradley_terry


def plan(config: Config) -> ConstructionPlan:
    own = config.rmboost
    return ConstructionPlan(rewriting=Rewriting(tuple(own.aspects), own.aspects_per_pair, own.better))


def stages(config: Config) -> tuple[Stage, ...]:
    return (Stage(Objective(bradley_terry)),)


def describe(config: Config) -> str:
    return "RMBoost: Bradley-Terry on the teacher's own responses made better or worse"


METHOD = Method("rmboost", plan, stages, describe)
