"""Edit-Aligned Margin Regression: a refined pair is compared wherever its two responses are aligned, not only at
their ends. Ours; no more teacher calls.

    L = (1 - α - β) · Σ_i w_i l_i / Σ_i w_i + α · NLL(y_T) + β · KL(P_T || P_φ)
    l_i = (1 - λ) · ((r_w - r_l) - γ)² + λ · mean_t ((r_w^t - r_l^t) - c_t γ)²,  γ = s_w - s_l

on D_sample ∪ D_refine. t runs over the places behind the first edit at which y_w* and y_l are aligned, r^t is the
reward read there, and c_t the share of the edits up to t. An annotated pair (sampled or labeled) has no such places;
it weighs w_i = `annotated_weight`, a refined one 1. The model that comes out is read at the end, as any other.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan, Refinement
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.objectives import Objective, margin_regression


def plan(config: Config) -> ConstructionPlan:
    own = config.edit_aligned
    refinement = Refinement(own.scoring, own.tau_e, own.tau_s)
    return ConstructionPlan(
        references=own.alpha > 0 or own.beta > 0, reference_fields=own.reference_fields, refinement=refinement
    )


def stages(config: Config) -> tuple[Stage, ...]:
    own = config.edit_aligned
    objective = Objective(
        margin_regression,
        pair_weight=1 - own.alpha - own.beta,
        nll_weight=own.alpha,
        kl_weight=own.beta,
        aligned_weight=own.aligned_weight,
    )
    reading = Reading(
        ("overall",),
        "teacher_response" if objective.regularized else "nothing",
        weights=dict.fromkeys(("sampled", "labeled"), own.annotated_weight),
        aligned=own.aligned_weight > 0,
    )
    return (Stage(objective, reading),)


def describe(config: Config) -> str:
    own = config.edit_aligned
    return (
        f"Edit-Aligned Margin Regression: refined pairs compared along their edits (weight {own.aligned_weight:g}), "
        f"annotated pairs weigh {own.annotated_weight:g}, generative regularization (alpha {own.alpha:g}, "
        f"beta {own.beta:g})"
    )


METHOD = Method("edit_aligned", plan, stages, describe)
