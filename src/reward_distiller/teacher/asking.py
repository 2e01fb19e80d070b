"""One `Engine.ask` by direct calls: workers that share the questions, up to as many as the endpoints take at once.

Whatever ends it, what is in flight may still land, and what has landed is committed. Knows no prompts and no parsers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import ChatModel
from reward_distiller.console import say, track
from reward_distiller.teacher.buying import Buyer
from reward_distiller.teacher.commits import Commits
from reward_distiller.teacher.endpoint import HttpTransport
from reward_distiller.teacher.ledger import BATCH, Stored
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import Asked, ask_for, read_answer
from reward_distiller.teacher.turns import Turns

if TYPE_CHECKING:
    from reward_distiller.teacher.engine import Engine

T = TypeVar("T")
GRACE = 20.0  # seconds for answers in flight when a run must stop


class Asking:
    """One `ask`: workers that share an iterator of questions, and what they buy their answers with."""

    def __init__(self, engine: Engine, model: ChatModel, step: str):
        self.engine, self.model, self.step = engine, model, step
        self.places = model.places
        self.transports = engine.transports_of(self.places)
        self.commits = Commits(engine.ledger)
        self.turns = Turns(engine.pool_of(self.places), engine.budget)
        self.buyer = Buyer(model, step, self.places, self.transports, self.turns, self.commits, engine.first_backoff)
        self.twins: dict[str, asyncio.Future[Stored | Failed]] = {}  # what is being bought, for who asks the same
        self.unread = 0

    async def all(self, questions: Sequence[Question[T]]) -> dict[str, Answer[T] | Quarantined | Failed]:
        outcomes: dict[str, Answer[T] | Quarantined | Failed] = {}
        writer = asyncio.create_task(self.commits.run())
        with track(f"{self.step}: {self.model.model}", len(questions), self._note) as advance:
            rest = self._looked_up(questions)

            async def worker() -> None:
                for question, call, known in rest:
                    outcomes[question.id] = outcome = await self._outcome(question, call, known)
                    self.unread += isinstance(outcome, Quarantined)
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

    def _note(self) -> str:
        """What the step's answers have taken so far, where that is known, and how many could not be read."""
        spent = self.engine.spent.get((self.step, self.model.model))
        money = spent.as_dict()["money"] if spent and self.model.price else None
        unread = f"{self.unread} quarantined" if self.unread else ""
        return ", ".join(filter(None, (f"{money:.2f} spent" if money is not None else "", unread)))

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

    def _looked_up(self, questions: Sequence[Question[T]]) -> Iterator[tuple[Question[T], Asked, Stored | None]]:
        """Every question with its first call and the ledger's answer to that, looked up many at a time."""
        for start in range(0, len(questions), BATCH):
            some = questions[start : start + BATCH]
            calls = [ask_for(self.model, question, 0) for question in some]
            known = self.engine.ledger.get_many(call.key for call in calls)
            for question, call in zip(some, calls, strict=True):
                yield question, call, known.get(call.key)

    async def _outcome(
        self, question: Question[T], call: Asked, known: Stored | None
    ) -> Answer[T] | Quarantined | Failed:
        texts: list[str] = []
        while True:
            response = await self._response(call, known)
            if isinstance(response, Failed):
                return response
            found = read_answer(self.model, question, response.body)
            if isinstance(found, Answer):
                return found
            texts.append(found.text)
            if found.final or len(texts) == self.model.max_asks:
                return Quarantined(found.reason, tuple(texts))
            call = ask_for(self.model, question, len(texts))
            known = self.engine.ledger.get(call.key)

    async def _response(self, call: Asked, known: Stored | None) -> Stored | Failed:
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
        if isinstance(found, Stored):
            self.engine.count(self.model, self.step, call.key, found)
        return found

    async def _bought(self, call: Asked) -> Stored | Failed:
        twin = self.twins[call.key] = asyncio.get_running_loop().create_future()
        try:
            found = await self.buyer.buy(call.key, call.text, call.request)
            twin.set_result(found)
            return found
        finally:
            twin.cancel()  # where it has no result: the error ends the run, and whoever waits with it
            del self.twins[call.key]
