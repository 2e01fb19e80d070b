"""SteerLM: the head predicts the teacher's scores, attribute by attribute (paper, equation 7; Dong et al., 2023).

    L = Σ_i (r_i(x, y) - s_i)²,  the mean of a pair's two responses

As in the paper there is one attribute by default, the overall score of the annotation. With several the teacher rates
each response on each; the reward is their weighted sum, which is linear in the head's outputs, so that the saved model
is a plain classifier all the same.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, attribute_regression


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan(attributes=tuple(name for name in sorted(config.steerlm.attributes) if name != "overall"))


def stages(config: Config) -> tuple[Stage, ...]:
    names, weights = zip(*sorted(config.steerlm.attributes.items()), strict=True)
    objective = Objective(attribute_regression, attributes=weights, absolute=True)
    return (Stage(objective, Reading(scores=names)),)


def describe(config: Config) -> str:
    weighed = ", ".join(f"{name} x {weight:g}" for name, weight in config.steerlm.attributes.items())
    return f"SteerLM: regression on the teacher's scores ({weighed})"


METHOD = Method("steerlm", plan, stages, describe)
