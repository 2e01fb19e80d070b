"""Recipe `preview`: what a run would ask of its models about its first prompts or pairs, word for word.

It is the run's own construction, cut to a few records, before an engine that writes down what passes. What the ledger
holds came back already; the testbed answers for nothing. For what nobody has answered a text in ⟨angle brackets⟩ stands
in, so that later steps can be shown. Only when told to ask does it buy, into the run's ledger, where the run finds it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import Caps, ChatModel, Config
from reward_distiller.construct.annotate import label_order
from reward_distiller.construct.pipeline import ConstructionPlan
from reward_distiller.construct.scoring import Scores
from reward_distiller.errors import ConfigError
from reward_distiller.methods import method_named
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_model import Inputs, asked_models, construction_of, read_inputs
from reward_distiller.teacher.endpoint import wire_body
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.parsing import Refinement
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import ask_for

T = TypeVar("T")
UNKNOWN = "nobody has answered yet"


@dataclass(frozen=True)
class Exchange:
    """One question, and what became of it. `request` is what is sent beside the messages."""

    step: str
    model: str
    record: str
    request: dict[str, Any]
    messages: list[dict[str, str]]
    source: str  # the ledger, the testbed, bought now, or UNKNOWN
    answers: tuple[str, ...] = ()  # raw; several where the first could not be read
    value: Any = None  # what was parsed of the last
    reason: str = ""  # why nothing was


def preview(config: Config, parts: Parts, count: int, *, ask: bool = False) -> list[Exchange]:
    """The exchanges about the first `count` records, in the order of the steps. Writes nothing unless told to `ask`."""
    if config.scenario == "responses" or config.teacher is None:
        raise ConfigError("nobody is asked in this run: its scores are read from the rows")
    config = _lenient(config if ask else _keyless(config))
    inputs = read_inputs(config, parts)
    inputs = replace(inputs, prompts=inputs.prompts[:count], labeled=inputs.labeled[:count])
    stand_in = StandIns(method_named(config.method).plan(config), _chosen_first(config, inputs))
    with _engine(config, parts, ask) as engine:
        watching = Watching(
            engine.ledger, engine.servers, engine.transports, engine.budget, stand_ins=stand_in, buys=ask
        )
        construction_of(config, parts, inputs, watching)[1]()
    return watching.exchanges


@dataclass(frozen=True)
class StandIns:
    """What a step might have been told. Scores are such that a pair goes on to the next step."""

    plan: ConstructionPlan
    chosen_first: dict[str, bool]

    def answer(self, model: ChatModel, step: str, question: Question[Any]) -> Answer[Any]:
        name = f"⟨{step}: what {model.model} says⟩"
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


@dataclass
class Watching(Engine):
    """An engine that writes down what it is asked, and gives stand-ins for what it may not buy."""

    stand_ins: StandIns | None = None
    buys: bool = False
    exchanges: list[Exchange] = field(default_factory=list)

    def ask(
        self, model: ChatModel, step: str, questions: Sequence[Question[T]]
    ) -> dict[str, Answer[T] | Quarantined | Failed]:
        assert self.stand_ins is not None
        self.offline = not (self.buys or model.is_testbed)
        calls = {question.id: ask_for(model, question, 0) for question in questions}
        there = self.ledger.get_many(call.key for call in calls.values())
        outcomes = super().ask(model, step, questions)
        for question in questions:
            outcome, call = outcomes[question.id], calls[question.id]
            missing = self.offline and isinstance(outcome, Failed)
            beside = {name: value for name, value in wire_body(call.request).items() if name != "messages"}
            source = "the ledger" if call.key in there else "the testbed" if model.is_testbed else "bought now"
            exchange = Exchange(
                step, model.model, question.id, beside, list(question.messages), UNKNOWN if missing else source
            )
            self.exchanges.append(_told(exchange, outcome))
            if missing:
                outcomes[question.id] = self.stand_ins.answer(model, step, question)
        return outcomes


def _told(exchange: Exchange, outcome: Answer[Any] | Quarantined | Failed) -> Exchange:
    if isinstance(outcome, Answer):
        return replace(exchange, answers=(outcome.text,), value=outcome.value)
    if isinstance(outcome, Quarantined):
        return replace(exchange, answers=outcome.texts, reason=outcome.reason)
    return replace(exchange, reason=outcome.reason)


@contextmanager
def _engine(config: Config, parts: Parts, ask: bool) -> Iterator[Engine]:
    """On the run's ledger, or on an empty one that goes with the block and looks into the run's."""
    if ask:
        with open_engine(config.ledger_path, parts.transports, config.budget, asked_models(config, parts)) as engine:
            yield engine
        return
    past = config.ledger_path if config.ledger_path.is_file() else None
    with (
        tempfile.TemporaryDirectory() as folder,
        open_engine(Path(folder) / "ledger.sqlite", parts.transports, Caps(), past=past) as engine,
    ):
        yield engine


def _keyless(config: Config) -> Config:
    """Without what only a request that is sent needs; the ledger's keys stay the same."""

    def bare(model: ChatModel) -> ChatModel:
        return model.model_copy(update={"api_key_env": None, "headers_env": {}, "endpoints": [], "batch": None})

    assert config.teacher is not None
    return config.model_copy(
        update={"teacher": bare(config.teacher), "candidates": [bare(model) for model in config.candidates]}
    )


def _lenient(config: Config) -> Config:
    """A few records may all fail, and are shown all the same."""
    return config.model_copy(update={"annotation": config.annotation.model_copy(update={"allowed_failures": 1.0})})


def _chosen_first(config: Config, inputs: Inputs) -> dict[str, bool]:
    """Of labeled pairs, whether the chosen response is the one that is shown first."""
    chosen = {pair.id: pair.chosen for pair in inputs.labeled}
    return {identity: first == chosen[identity] for identity, _, first, _ in label_order(inputs.labeled, config.seed)}
