"""Binary cross-entropy on single responses: the reward is the logit of a response's being right.

    L = -p log σ(r(x, y)) - (1 - p) log(1 - σ(r(x, y))),  p = (s - 1) / 9

with s the response's score on the teacher's scale from 1 to 10: p is 1 or 0 where a vote says right or wrong. What the
published abstract of the data-and-rewards system (arXiv 2502.19557) leaves open; the usual loss of outcome reward
models (Cobbe et al., 2021). With `bce.alpha`, α NLL of a right response of the teacher stands beside (1 - α) L; this is
ours: RM-Distiller's regularization.
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
    alpha = config.bce.alpha
    objective = Objective(cross_entropy, pair_weight=1 - alpha, nll_weight=alpha, absolute=True)
    return (Stage(objective, Reading(("overall",), "teacher_response" if alpha else "nothing", singles=True)),)


def describe(config: Config) -> str:
    beside = f", generative regularization (alpha {config.bce.alpha:g})" if config.bce.alpha else ""
    return f"binary cross-entropy on the pseudo-rewards of single responses{beside}"


METHOD = Method("bce", plan, stages, describe)
