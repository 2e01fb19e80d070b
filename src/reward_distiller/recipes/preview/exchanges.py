"""An engine that writes down what it is asked, and what a preview shows of it.

What the ledger holds came back already; the testbed answers for nothing. For what nobody has answered a text in
⟨angle brackets⟩ stands in, so that later steps can be shown. Only when told to ask does it buy, into the run's ledger,
where the run finds it. Knows no recipe.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import Caps, ChatModel
from reward_distiller.recipes.parts import Parts
from reward_distiller.teacher.endpoint import wire_body
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import ask_for

T = TypeVar("T")
StandIn = Callable[[ChatModel, str, Question[Any]], Answer[Any]]
UNKNOWN = "nobody has answered yet"


@dataclass(frozen=True)
class Exchange:
    """One question, and what became of it. `request` is what is sent beside the messages.

    `times`: how often the same is asked, where nobody has answered yet.
    """

    step: str
    model: str
    record: str
    request: dict[str, Any]
    messages: list[dict[str, str]]
    source: str  # the ledger, the testbed, bought now, or UNKNOWN
    answers: tuple[str, ...] = ()  # raw; several where the first could not be read
    value: Any = None  # what was parsed of the last
    reason: str = ""  # why nothing was
    times: int = 1


@dataclass(frozen=True)
class Shown:
    """What is sent nowhere: a prompt as a policy of this process reads it, or what a step makes of answers."""

    step: str
    about: str
    record: str
    text: str


Seen = Exchange | Shown


@dataclass
class Watching(Engine):
    """An engine that writes down what it is asked, and gives stand-ins for what it may not buy."""

    stand_in: StandIn | None = None
    buys: bool = False
    seen: list[Seen] = field(default_factory=list)
    unanswered: set[tuple[str, str]] = field(default_factory=set)  # step and record
    places: dict[str, int] = field(default_factory=dict)  # of what nobody has answered, in `seen`

    def show(self, step: str, about: str, record: str, text: str) -> None:
        self.seen.append(Shown(step, about, record, text))

    def ask(
        self, model: ChatModel, step: str, questions: Sequence[Question[T]]
    ) -> dict[str, Answer[T] | Quarantined | Failed]:
        assert self.stand_in is not None
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
            self._note(_told(exchange, outcome))
            if missing:
                self.unanswered.add((step, question.id))
                outcomes[question.id] = self.stand_in(model, step, question)
        return outcomes

    def _note(self, exchange: Exchange) -> None:
        if exchange.source == UNKNOWN:
            same = [exchange.step, exchange.model, exchange.record, exchange.request, exchange.messages]
            at = self.places.setdefault(json.dumps(same), len(self.seen))
            if at < len(self.seen):
                earlier = self.seen[at]
                assert isinstance(earlier, Exchange)
                self.seen[at] = replace(earlier, times=earlier.times + 1)
                return
        self.seen.append(exchange)


def _told(exchange: Exchange, outcome: Answer[Any] | Quarantined | Failed) -> Exchange:
    if isinstance(outcome, Answer):
        return replace(exchange, answers=(outcome.text,), value=outcome.value)
    if isinstance(outcome, Quarantined):
        return replace(exchange, answers=outcome.texts, reason=outcome.reason)
    return replace(exchange, reason=outcome.reason)


def named(step: str, model: str) -> str:
    """The text that stands in for an answer."""
    return f"⟨{step}: what {model} says⟩"


@contextmanager
def watching(
    parts: Parts,
    ledger: Path,
    stand_in: StandIn,
    *,
    buys: bool = False,
    caps: Caps | None = None,
    models: Sequence[ChatModel] = (),
) -> Iterator[Watching]:
    """On the run's ledger, or on an empty one that goes with the block and looks into the run's."""
    with tempfile.TemporaryDirectory() as folder:
        path, past = (ledger, None) if buys else (Path(folder) / "ledger.sqlite", ledger if ledger.is_file() else None)
        limits = caps if buys else None
        with open_engine(path, parts.transports, limits, models, past=past) as engine:
            yield Watching(
                engine.ledger, engine.servers, engine.transports, engine.budget, stand_in=stand_in, buys=buys
            )


def keyless(model: ChatModel) -> ChatModel:
    """Without what only a request that is sent needs; the ledger's keys stay the same."""
    return model.model_copy(update={"api_key_env": None, "headers_env": {}, "endpoints": [], "batch": None})
