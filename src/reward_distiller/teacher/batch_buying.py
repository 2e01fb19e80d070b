"""Calls bought in batches: handed over in files, waited for, and taken in as far as they were answered.

The rows of a batch are committed before it is created, its id as soon as it is known, its results in one transaction.
So whoever runs next, in whatever process, goes on with the batches that are open and hands over only what is in none of
them. What a batch leaves unanswered goes into another one, up to the model's `retries`. Knows no questions.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from reward_distiller.balance import Failed
from reward_distiller.config import BatchMode, ChatModel
from reward_distiller.console import say
from reward_distiller.errors import BatchesPending, BudgetReached, ConfigError, EndpointError
from reward_distiller.teacher import ledger_batches
from reward_distiller.teacher.batch_api import BatchApi, Remote
from reward_distiller.teacher.batch_lines import BrokenLine, Result, custom_id, request_line, results
from reward_distiller.teacher.budget import Budget, Reservation
from reward_distiller.teacher.cost import NOTHING, Cost, cost_of_call
from reward_distiller.teacher.endpoint import Refused, accept, store
from reward_distiller.teacher.http_client import Reply, Retry
from reward_distiller.teacher.ledger import Call, Ledger, Lost, Outcome, Stored
from reward_distiller.teacher.ledger_batches import Batch
from reward_distiller.teacher.reading import Asked
from reward_distiller.teacher.worst_case import worst_case

LISTED_WITHIN = 60.0  # seconds after it was begun: until then a batch that the server does not list may still come
DOWNLOADS = 3  # of a file with broken lines, before they count as lost: the server keeps it, a proxy may cut it off


class BatchBuyer:
    """Buys the calls of one step. `sent` counts those that this process has handed over."""

    def __init__(self, ledger: Ledger, model: ChatModel, step: str, api: BatchApi, budget: Budget):
        assert model.batch is not None
        self.ledger, self.model, self.step, self.api, self.budget = ledger, model, step, api, budget
        self.mode: BatchMode = model.batch
        self.sent = 0
        self._reserved: dict[str, Reservation] = {}
        self._refused: dict[str, str] = {}
        self._left: dict[str, str] = {}  # why a call has no answer yet, for who gives up on it

    async def buy(self, calls: Sequence[Asked]) -> dict[str, Stored | Failed]:
        """The committed answer to each call, by key, or why there is none.

        Raises EndpointError, BudgetReached, and BatchesPending where the config says not to wait.
        """
        found: dict[str, Stored | Failed] = {}
        rest = {call.key: call for call in calls}
        tries: Counter[str] = Counter()
        while True:
            await self._take_in_all(rest)
            found |= self.ledger.get_many(rest)
            found |= {key: Failed(self._refused[key]) for key in rest if key in self._refused and key not in found}
            for key in rest:
                if key not in found and tries[key] > self.model.retries:
                    found[key] = Failed(f"{self._left.get(key)}, {tries[key]} batches", gave_up=True)
            rest = {key: call for key, call in rest.items() if key not in found}
            if not rest:
                return found
            tries.update(await self._hand_over(list(rest.values())))

    async def take_in(self, batch: Batch) -> Batch:
        """A batch as it stands at the server now; where it has ended there, its results are committed."""
        remote = await (self.api.get(batch.remote) if batch.remote else self.api.find(batch.mark))
        if remote is None and time.time() < batch.started + LISTED_WITHIN:
            return batch
        if remote is None:
            ledger_batches.end(self.ledger, batch, ledger_batches.NOT_FOUND, [])
        elif remote.ended:
            await self._commit(batch, remote)
        elif (remote.id, remote.status) != (batch.remote, batch.status):
            ledger_batches.note(self.ledger, batch, remote.id, remote.status)
            say(f"{self.step}: batch {remote.id}: {remote.status}")
        return next(b for b in ledger_batches.batches(self.ledger) if b.id == batch.id)

    async def _take_in_all(self, wanted: Mapping[str, Asked]) -> None:
        """Wait until no batch that holds any of the calls is open."""
        while waiting := self._open(wanted):
            still = [batch for batch in waiting if (await self.take_in(batch)).ended is None]
            if not still:
                continue
            if not self.mode.wait:
                calls = sum(batch.waiting for batch in still)
                raise BatchesPending(
                    f"{self.step}: {len(still)} batches with {calls} calls are not answered yet. Run again later: "
                    "nothing is bought twice"
                )
            await asyncio.sleep(self.mode.poll)

    def _open(self, wanted: Mapping[str, Asked]) -> list[Batch]:
        every = ledger_batches.open_batches(self.ledger, self.model.model, self.model.base_url)
        return [batch for batch in every if not wanted.keys().isdisjoint(ledger_batches.waiting_in(self.ledger, batch))]

    async def _hand_over(self, calls: Sequence[Asked]) -> list[str]:
        """As many as the budget allows now, in as many batches as the limits need; their keys. Raises BudgetReached."""
        given: list[str] = []
        for some, lines in self._files(self._affordable(calls)):
            await self._create(some, lines)
            given += [call.key for call in some]
        return given

    def _affordable(self, calls: Sequence[Asked]) -> Iterator[tuple[Asked, Call]]:
        """Calls whose worst case is reserved. Raises BudgetReached where not even the first fits."""
        for number, asked in enumerate(calls):
            worst = worst_case(asked.request)
            if worst.input is None or worst.output is None:
                raise ConfigError(
                    f"model {self.model.model!r}: what a request may cost is unknown. Set sampling.max_tokens"
                )
            try:
                reserved = self.budget.reserve(self._cost(worst.input, worst.output))
            except BudgetReached:
                if not number:
                    raise
                return
            if reserved is None:
                return
            self._reserved[asked.key] = reserved
            yield asked, Call(asked.key, self.model.model, asked.text, self.step, *worst)

    def _files(self, calls: Iterator[tuple[Asked, Call]]) -> Iterator[tuple[list[Call], bytes]]:
        """Calls in groups that keep the limits of a batch, each with its file."""
        some: list[Call] = []
        file = bytearray()
        for asked, call in calls:
            line = request_line(asked.key, asked.request)
            if some and (len(some) == self.mode.max_requests or len(file) + len(line) > self.mode.max_bytes):
                yield some, bytes(file)
                some, file = [], bytearray()
            some.append(call)
            file += line
        if some:
            yield some, bytes(file)

    async def _create(self, calls: Sequence[Call], lines: bytes) -> None:
        """Nothing is billed for a file, so it goes first: a batch's rows are open for as short as can be."""
        file = await self.api.upload(lines)
        batch = ledger_batches.begin(self.ledger, self.model.model, self.model.base_url, self.mode.price_factor, calls)
        self.sent += len(calls)
        try:
            remote = await self.api.create(file, batch.mark)
        except EndpointError as error:
            with suppress(EndpointError):
                if await self.api.find(batch.mark) is None:
                    why = f"batch not created: {error}"
                    self._end(batch, ledger_batches.NOT_CREATED, dict.fromkeys((call.key for call in calls), why))
            raise
        ledger_batches.note(self.ledger, batch, remote.id, remote.status)
        say(f"{self.step}: batch {remote.id}: {len(calls)} calls handed over")

    async def _commit(self, batch: Batch, remote: Remote) -> None:
        """Take in what an ended batch has brought. Raises EndpointError for what every call would meet again."""
        keys = {custom_id(key): key for key in ledger_batches.waiting_in(self.ledger, batch)}
        lost: Outcome = Lost("no line in the batch's results")  # who says that it is complete may bill it
        brought = dict.fromkeys(keys.values(), lost if remote.status == "completed" else f"batch {remote.status}")
        errors: list[EndpointError] = []
        for result in reversed(await self._download(remote)):  # of two lines for one call the first one counts
            key = keys.get(result.custom_id)
            if key is None:
                continue
            try:
                brought[key] = self._outcome(result)
            except Refused as error:
                brought[key] = self._refused[key] = str(error)
            except EndpointError as error:
                brought[key] = str(error)
                errors.append(error)
        self._end(batch, remote.status, brought)
        answered = sum(isinstance(outcome, Stored) for outcome in brought.values())
        say(f"{self.step}: batch {remote.id}: {remote.status}, {answered} of {len(keys)} calls answered")
        if errors:
            raise errors[0]
        if remote.status == "failed":
            raise EndpointError(
                f"model {self.model.model!r} at {self.model.base_url}: batch {remote.id} failed: "
                f"{remote.problem or 'no reason given'}. Mend it, then run again"
            )

    def _end(self, batch: Batch, status: str, outcomes: Mapping[str, Outcome]) -> None:
        """Commit what became of a batch's calls, by key, and put what they did cost in the place of what they could."""
        waiting = ledger_batches.waiting_in(self.ledger, batch)
        rows = [(waiting[key].id, key, outcome) for key, outcome in outcomes.items() if key in waiting]
        ledger_batches.end(self.ledger, batch, status, rows)
        for _, key, outcome in rows:
            reserved, worst = self._reserved.pop(key, None), waiting[key]
            actual = self._actual(outcome)
            if reserved is not None:
                self.budget.settle(reserved, actual)
            elif actual is not None and worst.input is not None and worst.output is not None:
                self.budget.correct(self._cost(worst.input, worst.output), actual)
            if not isinstance(outcome, Stored):
                self._left[key] = outcome.reason if isinstance(outcome, Lost) else outcome

    def _actual(self, outcome: Outcome) -> Cost | None:
        """None where nobody knows."""
        if isinstance(outcome, str):
            return NOTHING
        if isinstance(outcome, Lost) or outcome.input_tokens is None or outcome.output_tokens is None:
            return None
        return self._cost(outcome.input_tokens, outcome.output_tokens)

    async def _download(self, remote: Remote) -> list[Result]:
        found: list[Result] = []
        for file in remote.files:
            for _ in range(DOWNLOADS):
                lines = list(results(await self.api.content(file)))
                broken = [line for line in lines if isinstance(line, BrokenLine)]
                if not broken:
                    break
            else:
                say(f"batch {remote.id}: {len(broken)} lines of {file} cannot be read ({broken[0]})")
            found += [line for line in lines if isinstance(line, Result)]
        return found

    def _outcome(self, result: Result) -> Outcome:
        """Raises Refused and EndpointError as a direct call does."""
        if result.status is None:
            return result.code
        try:
            return store(accept(self.model, Reply(result.status, {}, result.body)), self.mode.price_factor)
        except Retry as error:
            return str(error)

    def _cost(self, read: int, written: int) -> Cost:
        return cost_of_call(self.model.price, read, written, self.mode.price_factor)
