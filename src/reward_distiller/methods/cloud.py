"""CLoud: the reward model writes a critique, then scores what it read and wrote (paper, A.3; Ankner et al., 2024).

    1.  L = NLL(c | x, y),  c from the teacher                                          (LM head)
    2.  L = -log σ(r(x, y_w, ĉ_w) - r(x, y_l, ĉ_l)) + λ NLL(ĉ | x, y),  ĉ its own       (both heads)

Its own critiques are the ones that it will read at inference, which is why the second stage trains on them.
"""

from __future__ import annotations

from reward_distiller.config import Config
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.methods.protocol import Method, Stage
from reward_distiller.model.batches import Reading
from reward_distiller.model.critiques import CritiqueNeed
from reward_distiller.model.objectives import Objective, bradley_terry


def plan(config: Config) -> ConstructionPlan:
    return ConstructionPlan(critiques=True)


def stages(config: Config) -> tuple[Stage, ...]:
    own = config.cloud
    reading = Reading(supervised="critiques", request=own.request)
    write = Objective(bradley_terry, pair_weight=0.0, nll_weight=1.0)
    judge = Objective(bradley_terry, nll_weight=own.lm_weight)
    return (
        Stage(write, reading, "sft", own.sft_epochs, own.sft_learning_rate),
        Stage(judge, reading, own_critiques=True),
    )


def needs(config: Config) -> CritiqueNeed:
    return CritiqueNeed("self", config.cloud.request, config.cloud.max_tokens)


def describe(config: Config) -> str:
    return f"CLoud: Bradley-Terry on responses followed by its own critiques (LM weight {config.cloud.lm_weight:g})"


METHOD = Method("cloud", plan, stages, describe, needs)
