"""A reward model's run: its construction, cut to a few prompts or pairs, and watched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reward_distiller.config import ChatModel, Config
from reward_distiller.construct.annotate import label_order
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.construct.scoring import Scores
from reward_distiller.errors import ConfigError
from reward_distiller.methods import method_named
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.preview.exchanges import Seen, keyless, named, watching
from reward_distiller.recipes.reward_model import Inputs, asked_models, construction_of, read_inputs
from reward_distiller.teacher.parsing import Refinement
from reward_distiller.teacher.questions import Answer, Question


def preview_reward_model(config: Config, parts: Parts, count: int, *, ask: bool) -> list[Seen]:
    """The exchanges about the first `count` records, in the order of the steps."""
    if config.scenario == "responses" or config.teacher is None:
        raise ConfigError("nobody is asked in this run: its scores are read from the rows")
    config = _lenient(config if ask else _keyless(config))
    inputs = read_inputs(config, parts)
    inputs = replace(inputs, prompts=inputs.prompts[:count], labeled=inputs.labeled[:count])
    stand_ins = StandIns(method_named(config.method).plan(config), _chosen_first(config, inputs))
    models = asked_models(config, parts)
    with watching(parts, config.ledger_path, stand_ins.answer, buys=ask, caps=config.budget, models=models) as engine:
        construction_of(config, parts, inputs, engine)[1]()
        return engine.seen


@dataclass(frozen=True)
class StandIns:
    """What a step might have been told. Scores are such that a pair goes on to the next step."""

    plan: ConstructionPlan
    chosen_first: dict[str, bool]

    def answer(self, model: ChatModel, step: str, question: Question[Any]) -> Answer[Any]:
        name = named(step, model.model)
        return Answer(self._value(step, name, question), name)

    def _value(self, step: str, name: str, question: Question[Any]) -> Any:
        identity = question.id.partition("#")[0]
        if step == "annotate" or (step == "score" and self.plan.refinement and self._pairwise()):
            first = self.chosen_first.get(identity.removesuffix(":swapped"), True)
            return Scores((8.0, 3.0) if first != identity.endswith(":swapped") else (3.0, 8.0))
        if step == "score":
            return Scores((9.0,))
        if step == "refine":
            return Refinement(f"{name[:-1]} is wrong⟩", f"{name[:-1]} would be better⟩")
        if step == "attributes":
            return dict.fromkeys(self.plan.attributes, 5.0)
        return name

    def _pairwise(self) -> bool:
        return self.plan.refinement is not None and self.plan.refinement.scoring == "pairwise"


def _keyless(config: Config) -> Config:
    assert config.teacher is not None
    bare = {"teacher": keyless(config.teacher), "candidates": [keyless(model) for model in config.candidates]}
    return config.model_copy(update=bare)


def _lenient(config: Config) -> Config:
    """A few records may all fail, and are shown all the same."""
    return config.model_copy(update={"annotation": config.annotation.model_copy(update={"allowed_failures": 1.0})})


def _chosen_first(config: Config, inputs: Inputs) -> dict[str, bool]:
    """Of labeled pairs, whether the chosen response is the one that is shown first."""
    chosen = {pair.id: pair.chosen for pair in inputs.labeled}
    return {identity: first == chosen[identity] for identity, _, first, _ in label_order(inputs.labeled, config.seed)}
