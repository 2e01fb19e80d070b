"""Questions in, parsed answers out: through the ledger, many at a time, asked again when unusable.

`Engine.ask` is all that construction steps see. A question that the ledger answers costs nothing. An
answer that cannot be parsed is asked for again as a new sample, up to the model's `max_asks`, then
quarantined with its raw text; it never gets a value of its own. Knows no prompts and no parsers.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.config import ChatModel, Price
from reward_distiller.console import say, track
from reward_distiller.errors import CallsFailed, EndpointError
from reward_distiller.records import canonical_json
from reward_distiller.teacher.completion import Completion, read_completion
from reward_distiller.teacher.endpoint import (
    HttpTransport,
    Messages,
    Refused,
    Retry,
    Transport,
    build_request,
    store,
)
from reward_distiller.teacher.ledger import Call, Ledger, Stored, request_key
from reward_distiller.teacher.worst_case import worst_case

T = TypeVar("T")
GRACE = 20.0  # seconds for answers in flight when a run must stop
FIRST_CONTACT = 3  # attempts at a server that never answered before it is called unreachable


class Unparsable(ValueError):
    """A parser's verdict: this text is not an answer to what was asked. The message says why."""


class Truncated(Exception):
    """The answer ended at max_tokens. Asking again would end there too."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """`parse` turns the answer's text into a value or raises Unparsable.

    `extra` are fields that the request needs beside the model's own. `weigh` makes of a parsed value and the whole
    completion, with its tokens' probabilities, the value that counts. `first_sample` tells several askings of the same
    messages apart: each has `max_asks` samples from there on.
    """

    id: str
    messages: Messages
    parse: Callable[[str], T]
    extra: Mapping[str, Any] = field(default_factory=dict)
    weigh: Callable[[T, Completion], T] | None = None
    first_sample: int = 0


@dataclass(frozen=True)
class Answer(Generic[T]):
    value: T
    text: str


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
    """Asks through one ledger. `transports` serves base URLs other than HTTP (the testbed's, in process)."""

    ledger: Ledger
    transports: Mapping[str, Transport] = field(default_factory=dict)
    spent: dict[tuple[str, str], Spent] = field(default_factory=lambda: defaultdict(Spent))  # by step and model
    counted: set[str] = field(default_factory=set)  # keys in `spent`: an answer used twice was paid for once
    bought: int = 0  # calls sent by this process, against those that the ledger answered
    first_backoff: float = 0.5  # seconds; doubles up to a minute

    def ask(
        self, model: ChatModel, step: str, questions: Sequence[Question[T]]
    ) -> dict[str, Answer[T] | Quarantined | Failed]:
        """An outcome for every question, by id. Raises EndpointError where calls can no longer be made."""
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
        """What this process has sent, and what an earlier one left without an outcome."""
        say(f"calls: {self.bought} sent now, the rest answered by the ledger")
        if self.ledger.unknown_attempts:
            say(f"ledger: {self.ledger.unknown_attempts} attempts of an earlier run have no known outcome")

    def cost(self, models: Sequence[ChatModel]) -> list[dict[str, Any]]:
        """One row a step and model, of all answers that were read; money is None where it cannot be known."""
        prices = {m.model: m.price for m in models}
        return [
            {"step": step, "model": model, **asdict(spent), "money": spent.money(prices[model])}
            for (step, model), spent in sorted(self.spent.items())
        ]

    def missing(self, model: ChatModel, questions: Sequence[Question[Any]]) -> int:
        """How many of the questions have no first answer in the ledger."""
        keys = {request_key(build_request(model, q.messages, q.first_sample, q.extra)) for q in questions}
        return sum(self.ledger.get(key) is None for key in keys)


class _Asking:
    """One `ask`: workers that share an iterator of questions, and a ledger writer that commits in groups."""

    def __init__(self, engine: Engine, model: ChatModel, step: str):
        self.engine, self.model, self.step = engine, model, step
        self.transport = engine.transports.get(model.base_url)
        self.own_transport = self.transport is None
        self.waiting: list[tuple[str, Any, asyncio.Future]] = []
        self.wake = asyncio.Event()
        self.in_flight: dict[str, asyncio.Future[Stored | Failed]] = {}
        self.stopping = False
        self.reached = False  # whether the endpoint ever answered: one that never did is unreachable

    async def all(self, questions: Sequence[Question[T]]) -> dict[str, Answer[T] | Quarantined | Failed]:
        self.transport = self.transport or HttpTransport()
        outcomes: dict[str, Answer[T] | Quarantined | Failed] = {}
        writer = asyncio.create_task(self._write_groups())
        with track(f"{self.step}: {self.model.model}", len(questions)) as advance:
            rest = iter(questions)

            async def worker() -> None:
                for question in rest:
                    outcomes[question.id] = await self._outcome(question)
                    advance()

            workers = [asyncio.create_task(worker()) for _ in range(min(self.model.concurrency, len(questions)))]
            done = asyncio.gather(*workers)
            either: list[asyncio.Future[Any]] = [done, writer]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if writer.done():  # it ends only by an error, and nobody can go on without it
                    await writer
                await done
            finally:
                await self._stop([*workers, done], writer)
                writer_failed = writer.done()
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                if not writer_failed:  # what was received and not yet written was paid for
                    self.engine.ledger.finish([row for kind, row, _ in self.waiting if kind == "finish"])
                if self.own_transport:
                    await self.transport.close()
        return outcomes

    async def _stop(self, workers: list[asyncio.Future[Any]], writer: asyncio.Future[Any]) -> None:
        """End the workers; what is in flight is paid for and may still land, but nothing is sent any more."""
        self.stopping = True
        for worker in workers:
            worker.cancel()
        flying = [call for call in self.in_flight.values() if not call.done()]
        if flying and not writer.done():
            say(f"{self.step}: stopping; up to {GRACE:g} s for {len(flying)} answers in flight")
            landing = asyncio.gather(*flying, return_exceptions=True)
            await asyncio.wait([landing, writer], timeout=GRACE, return_when=asyncio.FIRST_COMPLETED)
        for call in flying:
            call.cancel()
        await asyncio.gather(*workers, *self.in_flight.values(), return_exceptions=True)

    async def _outcome(self, question: Question[T]) -> Answer[T] | Quarantined | Failed:
        texts: list[str] = []
        reason = ""
        for number in range(self.model.max_asks):
            request = build_request(self.model, question.messages, question.first_sample + number, question.extra)
            response = await self._response(request)
            if isinstance(response, Failed):
                return response
            texts.append(response.body.decode("utf-8", "replace"))
            try:
                completion = read_completion(response.body)
                texts[-1] = completion.text
                if completion.finish_reason == "length":
                    raise Truncated(f"truncated at {self.model.sampling.max_tokens} tokens; raise sampling.max_tokens")
                value = question.parse(completion.text)
                return Answer(question.weigh(value, completion) if question.weigh else value, completion.text)
            except Truncated as error:
                return Quarantined(str(error), tuple(texts))
            except ValueError as error:
                reason = str(error)
        return Quarantined(reason, tuple(texts))

    async def _response(self, request: dict[str, Any]) -> Stored | Failed:
        """From the ledger, from a twin that is in flight, or bought."""
        key = request_key(request)
        found: Stored | Failed | None = self.engine.ledger.get(key)
        if found is None:
            if key not in self.in_flight:
                self.in_flight[key] = asyncio.ensure_future(self._buy(key, request))
            found = await asyncio.shield(self.in_flight[key])
        if isinstance(found, Stored) and key not in self.engine.counted:
            self.engine.counted.add(key)
            self._count(found)
        return found

    async def _buy(self, key: str, request: dict[str, Any]) -> Stored | Failed:
        row = Call(key, self.model.model, canonical_json(request), self.step, *worst_case(request))
        for retry in range(self.model.retries + 1):
            if self.stopping:
                return Failed("stopped")
            attempt = await self._commit("begin", row)
            self.engine.bought += 1
            try:
                assert self.transport is not None
                stored = store(await self.transport.send(self.model, request))
                await self._commit("finish", (attempt, key, stored))
                self.reached = True
                return stored
            except Refused as error:
                self.reached = True
                await self._commit("finish", (attempt, key, str(error)))
                return Failed(str(error))
            except EndpointError as error:
                await self._commit("finish", (attempt, key, str(error)))
                raise
            except Retry as error:
                self.reached = self.reached or str(error).startswith("HTTP ")
                await self._commit("finish", (attempt, key, str(error)))
                reason = str(error)
                if not self.reached and retry + 1 >= FIRST_CONTACT:
                    break
                if retry < self.model.retries:
                    backoff = min(self.engine.first_backoff * 2**retry, 60.0) * random.uniform(0.5, 1.5)
                    await asyncio.sleep(backoff if error.after is None else error.after)
        if not self.reached:
            raise EndpointError(
                f"model {self.model.model!r}: {self.model.base_url} does not answer ({reason}). Start the server or "
                "mend base_url, then run again: no answer is bought twice"
            )
        return Failed(f"{reason}, {self.model.retries + 1} attempts", gave_up=True)

    def _count(self, stored: Stored) -> None:
        spent = self.engine.spent[self.step, self.model.model]
        spent.calls += 1
        spent.input_tokens += stored.input_tokens or 0
        spent.output_tokens += stored.output_tokens or 0
        spent.without_usage += stored.input_tokens is None or stored.output_tokens is None

    # -- group commit: all that came up since the last commit goes into the next one -------------

    async def _commit(self, kind: str, row: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((kind, row, future))
        self.wake.set()
        return await future

    async def _write_groups(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            await asyncio.sleep(0)  # let every worker that is ready add its row
            group, self.waiting = self.waiting, []
            begins = [entry for entry in group if entry[0] == "begin"]
            finishes = [entry for entry in group if entry[0] == "finish"]
            ids = self.engine.ledger.begin([row for _, row, _ in begins]) if begins else []
            self.engine.ledger.finish([row for _, row, _ in finishes])
            for (_, _, future), attempt in zip(begins, ids, strict=True):
                future.set_result(attempt)
            for _, _, future in finishes:
                future.set_result(None)


@contextmanager
def open_engine(path: Path, transports: Mapping[str, Transport]) -> Iterator[Engine]:
    with Ledger.open(path) as ledger:
        yield Engine(ledger, transports)
