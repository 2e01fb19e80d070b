"""Binary cross-entropy on single responses: the reward is the logit of a response's being right.

    L = -p log σ(r(x, y)) - (1 - p) log(1 - σ(r(x, y))),  p = (s - 1) / 9

with s the response's score on the teacher's scale from 1 to 10: p is 1 or 0 where a vote says right or wrong. What the
published abstract of the data-and-rewards system (arXiv 2502.19557) leaves open; the usual loss of outcome reward
models (Cobbe et al., 2021).
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, cross_entropy


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan()


def stages(config: Config) -> tuple[Stage, ...]:
    return (Stage(Objective(cross_entropy, absolute=True), Reading(scores=("overall",), singles=True)),)


def describe(config: Config) -> str:
    return "binary cross-entropy on the pseudo-rewards of single responses"


METHOD = Method("bce", plan, stages, describe)
