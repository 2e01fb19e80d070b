"""Questions in, parsed answers out: through the ledger, many at a time, asked again when unusable.

`Engine.ask` is all that construction steps see. A question that the ledger answers costs nothing. An
answer that cannot be parsed is asked for again as a new sample, up to the model's `max_asks`, then
quarantined with its raw text; it never gets a value of its own. Knows no prompts and no parsers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.config import Caps, ChatModel, Price
from reward_distiller.console import say
from reward_distiller.errors import CallsFailed
from reward_distiller.teacher.asking import Asking
from reward_distiller.teacher.batch_asking import BatchAsking
from reward_distiller.teacher.budget import Budget
from reward_distiller.teacher.cost import NOTHING, Cost, cost_of_call
from reward_distiller.teacher.endpoint import HttpTransport, Transport
from reward_distiller.teacher.launch import LocalServers, LocalTransport
from reward_distiller.teacher.ledger import Ledger, LedgerWithPast, Stored
from reward_distiller.teacher.pool import Pool
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import ask_for
from reward_distiller.teacher.spending import budget_of

T = TypeVar("T")


@dataclass
class Spent:
    """What a run's answers took, whenever they were bought. Money is not known where there are any without usage."""

    cost: Cost = NOTHING
    without_usage: int = 0  # answers whose server did not say what they took

    def add(self, stored: Stored, price: Price | None) -> None:
        tokens = stored.input_tokens or 0, stored.output_tokens or 0
        self.cost += cost_of_call(price, *tokens, stored.price_factor)
        self.without_usage += stored.input_tokens is None or stored.output_tokens is None

    def as_dict(self) -> dict[str, Any]:
        known = self.cost.money is not None and not self.without_usage
        return {
            "calls": self.cost.calls,
            "input_tokens": self.cost.input_tokens,
            "output_tokens": self.cost.output_tokens,
            "without_usage": self.without_usage,
            "money": float(self.cost.money) if known else None,  # type: ignore[arg-type]
        }


@dataclass
class Engine:
    """Asks through one ledger. `transports` serves base URLs other than HTTP (the testbed's, in process).

    An `offline` engine sends nothing: what the ledger does not answer has failed.
    """

    ledger: Ledger
    servers: LocalServers
    transports: Mapping[str, Transport] = field(default_factory=dict)
    budget: Budget = field(default_factory=lambda: Budget([]))
    offline: bool = False
    spent: dict[tuple[str, str], Spent] = field(default_factory=lambda: defaultdict(Spent))  # by step and model
    counted: set[str] = field(default_factory=set)  # keys in `spent`: an answer used twice was paid for once
    bought: int = 0  # calls sent by this process, against those that the ledger answered
    first_backoff: float = 0.5  # seconds; doubles up to a minute
    pools: dict[tuple[str, ...], Pool] = field(default_factory=dict)  # by endpoints: what was learned of them stays

    def ask(
        self, model: ChatModel, step: str, questions: Sequence[Question[T]]
    ) -> dict[str, Answer[T] | Quarantined | Failed]:
        """An outcome for every question, by id.

        Raises EndpointError where calls can no longer be made, BudgetReached where they may no longer.
        """
        if len({q.id for q in questions}) != len(questions):
            raise ValueError(f"step {step}: two questions share an id")
        asking = BatchAsking(self, model, step) if model.batch else Asking(self, model, step)
        return asyncio.run(asking.all(questions))

    def ask_counted(
        self, model: ChatModel, step: str, questions: Sequence[Question[T]], balance: Balance
    ) -> dict[str, Answer[T] | Quarantined | Failed]:
        """As `ask`, with what became of each question in a balance.

        Raises CallsFailed where the server gave up on one that it may answer another time: only refusals are outcomes.
        """
        outcomes = self.ask(model, step, questions)
        balance.total += len(questions)
        for question in questions:
            outcome = outcomes[question.id]
            if isinstance(outcome, Answer):
                balance.keep()
            elif isinstance(outcome, Failed) and outcome.gave_up:
                raise CallsFailed(f"step {step}: {question.id}: {outcome.reason}. Run again: no answer is bought twice")
            else:
                balance.lose_to(outcome, question.id, model.model)
        return outcomes

    def say_calls(self) -> None:
        """What this process has sent, and how many attempts, earlier runs' among them, may be billed for nothing."""
        say(f"calls: {self.bought} sent now, the rest answered by the ledger")
        if unknown := self.ledger.unknown_attempts:
            say(f"ledger: {unknown} attempts have no known outcome; they count at their worst case (ledger stats)")

    def count(self, model: ChatModel, step: str, key: str, stored: Stored) -> None:
        """An answer is read; what it took counts once."""
        if key not in self.counted:
            self.counted.add(key)
            self.spent[step, model.model].add(stored, model.price)

    def cost(self) -> list[dict[str, Any]]:
        """One row a step and model, of all answers that were read; money is None where it cannot be known."""
        return [
            {"step": step, "model": model, **spent.as_dict()} for (step, model), spent in sorted(self.spent.items())
        ]

    def missing(self, model: ChatModel, questions: Sequence[Question[Any]]) -> int:
        """How many of the questions have no first answer in the ledger."""
        requests = requests_of(model, questions)
        return len(requests) - len(self.ledger.get_many(requests))

    def pool_of(self, places: Mapping[str, ChatModel]) -> Pool:
        most = {name: place.concurrency for name, place in places.items()}
        key = tuple(f"{name} {n}" for name, n in most.items())
        if key not in self.pools:
            self.pools[key] = Pool(most, self.first_backoff)
        return self.pools[key]

    def transports_of(self, places: Mapping[str, ChatModel]) -> dict[str, Transport]:
        """Who sends to each place; those that are ours to close are HttpTransports."""
        http, local = HttpTransport(), LocalTransport(self.servers)
        return {
            name: local if place.launch else self.transports.get(place.base_url, http) for name, place in places.items()
        }


def requests_of(model: ChatModel, questions: Sequence[Question[Any]]) -> dict[str, dict[str, Any]]:
    """The distinct requests for a first answer, by key."""
    asked = (ask_for(model, question, 0) for question in questions)
    return {call.key: call.request for call in asked}


@contextmanager
def open_engine(
    path: Path,
    transports: Mapping[str, Transport],
    caps: Caps | None = None,
    models: Sequence[ChatModel] = (),
    *,
    offline: bool = False,
    past: Path | None = None,
) -> Iterator[Engine]:
    """An engine on the ledger of that path; local servers that it starts end with the block.

    What the ledger `past` answers is not asked again. `caps` are on what all calls of the ledger cost, by the prices of
    `models`. Raises ConfigError where that cannot be known.
    """
    with ExitStack() as stack:
        ledger = stack.enter_context((LedgerWithPast if past else Ledger).open(path))
        if past and isinstance(ledger, LedgerWithPast):
            ledger.past = stack.enter_context(Ledger.read(past))
        servers = LocalServers(Path(path).parent)
        try:
            yield Engine(ledger, servers, transports, budget_of(ledger, caps or Caps(), models), offline)
        finally:
            servers.close()
