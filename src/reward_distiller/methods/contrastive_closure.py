"""Contrastive Closure: RM-Distiller on closed triangles of sampled and refined pairs. Ours; no more teacher calls.

    L = (1 - α - β) · ((r_w - r_l) - (s_w - s_l))² + α · NLL(y_T) + β · KL(P_T || P_φ)

on D_sample ∪ D_refine ∪ D_close: D_close has the refined against the once chosen response (`construct/closure.py`).
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan, Refinement
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, margin_regression


def plan(config: Config) -> ConstructionPlan:
    own = config.contrastive_closure
    return ConstructionPlan(
        references=own.alpha > 0 or own.beta > 0,
        refinement=Refinement(own.scoring, own.tau_e, own.tau_s),
        closure=True,
    )


def stages(config: Config) -> tuple[Stage, ...]:
    own = config.contrastive_closure
    objective = Objective(
        margin_regression, pair_weight=1 - own.alpha - own.beta, nll_weight=own.alpha, kl_weight=own.beta
    )
    return (Stage(objective, Reading(("overall",), "teacher_response" if objective.regularized else "nothing")),)


def describe(config: Config) -> str:
    own = config.contrastive_closure
    return (
        "Contrastive Closure: margin regression on sampled, refined and closed pairs, generative regularization "
        f"(alpha {own.alpha:g}, beta {own.beta:g})"
    )


METHOD = Method("contrastive_closure", plan, stages, describe)
