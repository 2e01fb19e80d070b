"""Source-Weighted Margin Regression: RM-Distiller with less weight on annotated pairs. Ours; no more teacher calls.

    L = (1 - α - β) · Σ_i w_i ((r_w - r_l) - (s_w - s_l))² / Σ_i w_i + α · NLL(y_T) + β · KL(P_T || P_φ)

on D_sample ∪ D_refine. A refined pair has the weight w_i = 1, an annotated one (sampled or labeled) `annotated_weight`.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan, Refinement
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, margin_regression


def plan(config: Config) -> ConstructionPlan:
    own = config.source_weighted
    return ConstructionPlan(
        references=own.alpha > 0 or own.beta > 0, refinement=Refinement(own.scoring, own.tau_e, own.tau_s)
    )


def stages(config: Config) -> tuple[Stage, ...]:
    own = config.source_weighted
    objective = Objective(
        margin_regression, pair_weight=1 - own.alpha - own.beta, nll_weight=own.alpha, kl_weight=own.beta
    )
    reading = Reading(
        ("overall",),
        "teacher_response" if objective.regularized else "nothing",
        weights=dict.fromkeys(("sampled", "labeled"), own.annotated_weight),
    )
    return (Stage(objective, reading),)


def describe(config: Config) -> str:
    own = config.source_weighted
    return (
        f"Source-Weighted Margin Regression: annotated pairs weigh {own.annotated_weight:g} of a refined one, "
        f"generative regularization (alpha {own.alpha:g}, beta {own.beta:g})"
    )


METHOD = Method("source_weighted", plan, stages, describe)
