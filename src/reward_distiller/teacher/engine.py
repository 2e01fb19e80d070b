"""Questions in, parsed answers out: through the ledger, many at a time, asked again when unusable.

`Engine.ask` is all that construction steps see. A question that the ledger answers costs nothing. An
answer that cannot be parsed is asked for again as a new sample, up to the model's `max_asks`, then
quarantined with its raw text; it never gets a value of its own. Knows no prompts and no parsers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.config import Caps, ChatModel, Price
from reward_distiller.console import say, track
from reward_distiller.errors import CallsFailed
from reward_distiller.records import canonical_json
from reward_distiller.teacher.budget import Budget
from reward_distiller.teacher.buying import Buyer
from reward_distiller.teacher.commits import Commits
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.endpoint import HttpTransport, Transport, build_request
from reward_distiller.teacher.launch import LocalServers, LocalTransport
from reward_distiller.teacher.ledger import BATCH, Ledger, Stored, key_of_text, request_key
from reward_distiller.teacher.pool import Pool
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.spending import budget_of
from reward_distiller.teacher.turns import Turns

T = TypeVar("T")
GRACE = 20.0  # seconds for answers in flight when a run must stop


class Truncated(Exception):
    """The answer ended at max_tokens. Asking again would end there too."""


@dataclass
class Spent:
    """What a run's answers took, whenever they were bought."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    without_usage: int = 0  # answers whose server did not say what they took

    def money(self, price: Price | None) -> float | None:
        """None where it cannot be known."""
        if price is None or self.without_usage:
            return None
        return (self.input_tokens * price.input + self.output_tokens * price.output) / 1e6


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
        return asyncio.run(_Asking(self, model, step).all(questions))

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

    def cost(self, models: Sequence[ChatModel]) -> list[dict[str, Any]]:
        """One row a step and model, of all answers that were read; money is None where it cannot be known."""
        prices = {m.model: m.price for m in models}
        return [
            {"step": step, "model": model, **asdict(spent), "money": spent.money(prices[model])}
            for (step, model), spent in sorted(self.spent.items())
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
    built = [build_request(model, q.messages, q.first_sample, q.extra) for q in questions]
    return {request_key(request): request for request in built}


class _Call(NamedTuple):
    """A request, as it is and as canonical JSON, and its key in the ledger."""

    request: dict[str, Any]
    text: str
    key: str


class _Asking:
    """One `ask`: workers that share an iterator of questions, and what they buy their answers with."""

    def __init__(self, engine: Engine, model: ChatModel, step: str):
        self.engine, self.model, self.step = engine, model, step
        self.places = model.places
        self.transports = engine.transports_of(self.places)
        self.commits = Commits(engine.ledger)
        self.turns = Turns(engine.pool_of(self.places), engine.budget)
        self.buyer = Buyer(model, step, self.places, self.transports, self.turns, self.commits, engine.first_backoff)
        self.twins: dict[str, asyncio.Future[Stored | Failed]] = {}  # what is being bought, for who asks the same

    async def all(self, questions: Sequence[Question[T]]) -> dict[str, Answer[T] | Quarantined | Failed]:
        outcomes: dict[str, Answer[T] | Quarantined | Failed] = {}
        writer = asyncio.create_task(self.commits.run())
        with track(f"{self.step}: {self.model.model}", len(questions)) as advance:
            rest = self._looked_up(questions)

            async def worker() -> None:
                for question, call, known in rest:
                    outcomes[question.id] = await self._outcome(question, call, known)
                    advance()
                    if self.buyer.stopping:
                        return

            most = sum(place.concurrency for place in self.places.values())
            workers = [asyncio.create_task(worker()) for _ in range(min(most, len(questions)))]
            done = asyncio.gather(*workers)
            either: list[asyncio.Future[Any]] = [done, writer]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if writer.done():  # it ends only by an error, and nobody can go on without it
                    await writer
                await done
            finally:
                await self._stop(workers, writer)
                await asyncio.gather(done, return_exceptions=True)
                writer_failed = writer.done()
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                if not writer_failed:
                    self.commits.flush()
                self.engine.bought += self.buyer.sent
                for transport in self.transports.values():
                    if isinstance(transport, HttpTransport):
                        await transport.close()
        return outcomes

    async def _stop(self, workers: list[asyncio.Task[None]], writer: asyncio.Future[Any]) -> None:
        """End the workers; what is in flight is paid for and may still land, but nothing is sent any more."""
        self.buyer.stop()
        self.turns.stop()
        ending: asyncio.Future[Any] = asyncio.gather(*workers, return_exceptions=True)
        await asyncio.sleep(0)  # who only waits for a turn is gone
        if not ending.done() and not writer.done():
            say(f"{self.step}: stopping; up to {GRACE:g} s for {self.buyer.in_flight} answers in flight")
            await asyncio.wait([ending, writer], timeout=GRACE, return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            worker.cancel()
        await ending

    def _looked_up(self, questions: Sequence[Question[T]]) -> Iterator[tuple[Question[T], _Call, Stored | None]]:
        """Every question with its first call and the ledger's answer to that, looked up many at a time."""
        for start in range(0, len(questions), BATCH):
            some = questions[start : start + BATCH]
            calls = [self._call(question, 0) for question in some]
            known = self.engine.ledger.get_many(call.key for call in calls)
            for question, call in zip(some, calls, strict=True):
                yield question, call, known.get(call.key)

    def _call(self, question: Question[T], number: int) -> _Call:
        """The call for the answer of that number to a question."""
        request = build_request(self.model, question.messages, question.first_sample + number, question.extra)
        text = canonical_json(request)
        return _Call(request, text, key_of_text(text))

    async def _outcome(
        self, question: Question[T], call: _Call, known: Stored | None
    ) -> Answer[T] | Quarantined | Failed:
        texts: list[str] = []
        reason = ""
        for number in range(self.model.max_asks):
            if number:
                call = self._call(question, number)
                known = self.engine.ledger.get(call.key)
            response = await self._response(call, known)
            if isinstance(response, Failed):
                return response
            texts.append(response.body.decode("utf-8", "replace"))
            try:
                completion = read_completion(response.body)
                texts[-1] = completion.text
                if completion.finish_reason == "length":
                    raise Truncated(f"truncated at {self.model.sampling.max_tokens} tokens; raise sampling.max_tokens")
                return Answer(question.read(completion), completion.text)
            except Truncated as error:
                return Quarantined(str(error), tuple(texts))
            except ValueError as error:
                reason = str(error)
        return Quarantined(reason, tuple(texts))

    async def _response(self, call: _Call, known: Stored | None) -> Stored | Failed:
        """What the ledger had, what a twin of the call has brought or will bring, or bought."""
        found: Stored | Failed | None = known
        if found is None and self.engine.offline:
            return Failed("not in the ledger", gave_up=True)
        if found is None and call.key in self.twins:
            found = await asyncio.shield(self.twins[call.key])
        elif found is None and call.key in self.engine.counted:
            found = self.engine.ledger.get(call.key)
        if found is None:
            found = await self._bought(call)
        if isinstance(found, Stored) and call.key not in self.engine.counted:
            self.engine.counted.add(call.key)
            self._count(found)
        return found

    async def _bought(self, call: _Call) -> Stored | Failed:
        twin = self.twins[call.key] = asyncio.get_running_loop().create_future()
        try:
            found = await self.buyer.buy(call.key, call.text, call.request)
            twin.set_result(found)
            return found
        finally:
            twin.cancel()  # where it has no result: the error ends the run, and whoever waits with it
            del self.twins[call.key]

    def _count(self, stored: Stored) -> None:
        spent = self.engine.spent[self.step, self.model.model]
        spent.calls += 1
        spent.input_tokens += stored.input_tokens or 0
        spent.output_tokens += stored.output_tokens or 0
        spent.without_usage += stored.input_tokens is None or stored.output_tokens is None


@contextmanager
def open_engine(
    path: Path,
    transports: Mapping[str, Transport],
    caps: Caps | None = None,
    models: Sequence[ChatModel] = (),
    *,
    offline: bool = False,
) -> Iterator[Engine]:
    """An engine on the ledger of that path; local servers that it starts end with the block.

    `caps` are on what all calls of the ledger cost, by the prices of `models`. Raises ConfigError where that cannot be
    known.
    """
    with Ledger.open(path) as ledger:
        servers = LocalServers(Path(path).parent)
        try:
            yield Engine(ledger, servers, transports, budget_of(ledger, caps or Caps(), models), offline)
        finally:
            servers.close()
