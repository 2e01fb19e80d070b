"""RM-Distiller: refinement, scores and generation of the teacher together (paper, section 3).

    L = (1 - α - β) · ((r_w - r_l) - (s_w - s_l))² + α · NLL(y_T) + β · KL(P_T || P_φ)      (equation 5)

on D_final = D_sample ∪ D_refine. Each part can be switched off in the config for an ablation, the margin by another
loss.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan, Refinement
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import (
    Objective,
    PairLoss,
    bradley_terry,
    lsam,
    margin_bradley_terry,
    margin_regression,
)

LOSSES: dict[str, PairLoss] = {
    loss.__name__: loss for loss in (margin_regression, margin_bradley_terry, lsam, bradley_terry)
}


def plan(config: Config) -> ConstructionPlan:
    own = config.rm_distiller
    refinement = Refinement(own.scoring, own.tau_e, own.tau_s) if own.refine else None
    return ConstructionPlan(
        references=own.alpha > 0 or own.beta > 0, reference_fields=own.reference_fields, refinement=refinement
    )


def stages(config: Config) -> tuple[Stage, ...]:
    own = config.rm_distiller
    objective = Objective(
        LOSSES[own.loss], pair_weight=1 - own.alpha - own.beta, nll_weight=own.alpha, kl_weight=own.beta
    )
    scores = () if own.loss == "bradley_terry" else ("overall",)
    return (Stage(objective, Reading(scores, "teacher_response" if objective.regularized else "nothing")),)


def describe(config: Config) -> str:
    own = config.rm_distiller
    parts = [f"{own.loss.replace('_', ' ')} on the teacher's scores"]
    if own.refine:
        parts.append(f"contrastive refinement with {own.scoring.replace('_', '-')} scoring")
    if own.alpha or own.beta:
        parts.append(f"generative regularization (alpha {own.alpha:g}, beta {own.beta:g})")
    return "RM-Distiller: " + ", ".join(parts)


METHOD = Method("rm_distiller", plan, stages, describe)
