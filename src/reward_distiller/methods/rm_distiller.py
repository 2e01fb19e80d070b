"""RM-Distiller: refinement, scores and generation of the teacher together (paper, section 3).

    L = (1 - α - β) · ((r_w - r_l) - (s_w - s_l))² + α · NLL(y_T) + β · KL(P_T || P_φ)      (equation 5)

on D_final = D_sample ∪ D_refine. Each part can be switched off in the config for an ablation.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan, Refinement
from reward_distiller.methods.protocol import Method
from reward_distiller.model.objectives import Objective, margin_regression


def plan(config: Config) -> ConstructionPlan:
    own = config.rm_distiller
    refinement = Refinement(own.scoring, own.tau_e, own.tau_s) if own.refine else None
    return ConstructionPlan(references=own.alpha > 0 or own.beta > 0, refinement=refinement)


def objective(config: Config) -> Objective:
    own = config.rm_distiller
    return Objective(
        pair_loss=margin_regression,
        pair_weight=1 - own.alpha - own.beta,
        nll_weight=own.alpha,
        kl_weight=own.beta,
    )


def describe(config: Config) -> str:
    own = config.rm_distiller
    parts = ["margin-aware regression on the teacher's scores"]
    if own.refine:
        parts.append(f"contrastive refinement with {own.scoring.replace('_', '-')} scoring")
    if own.alpha or own.beta:
        parts.append(f"generative regularization (alpha {own.alpha:g}, beta {own.beta:g})")
    return "RM-Distiller: " + ", ".join(parts)


METHOD = Method("rm_distiller", plan, objective, needs_margin=True, describe=describe)
