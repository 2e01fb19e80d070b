"""The scoring core: requests wait in one bounded line, and whatever waits is scored together.

Everything but tokenising and the forward pass happens on the event loop, so nothing here needs a lock. A batch is
as many requests as fit `batch_tokens`; the next one gathers while it is scored, so no request waits for company.
Responses of whichever requests share their prompts' tokens (`model/layout.py`). Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from reward_distiller.console import say
from reward_distiller.model.chat import Encoded
from reward_distiller.model.reward_model import SLOTS, RewardModel
from reward_distiller.serve.metrics import Metrics
from reward_distiller.serve.refusals import Refused

LONGEST_WAIT = 60  # seconds, in Retry-After


@dataclass(frozen=True)
class Limits:
    """How much is taken at once. `responses` and `queue` count responses, of one request and of all together."""

    responses: int = 256
    queue: int = 4096
    batch_tokens: int = SLOTS
    body_bytes: int = 8 * 2**20


@dataclass(frozen=True)
class Scored:
    """Rewards in the request's order, and the tokens that were read for them."""

    rewards: list[float]
    tokens: int


@dataclass
class _Waiting:
    sequences: Sequence[Encoded]
    answer: asyncio.Future[Scored]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.sequences))


class Core:
    """Scores with one model. Use within `running`."""

    def __init__(self, model: RewardModel, limits: Limits, metrics: Metrics, threads: int | None = None):
        self.model, self.limits, self.metrics = model, limits, metrics
        self.admitted = 0  # responses that are being tokenised, wait, or are being scored
        self._line: deque[_Waiting] = deque()
        self._came = asyncio.Event()
        self._seconds_each = 0.01  # of a response, lately
        settings = partial(torch.set_num_threads, threads) if threads else None  # they are a thread's own
        self._scorer = ThreadPoolExecutor(1, "score", settings)
        self._encoder = ThreadPoolExecutor(1, "encode")  # one: a fast tokenizer is not to be shared
        metrics.watch_queue(lambda: self.admitted)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        work = asyncio.create_task(self._work())
        try:
            yield
        finally:
            work.cancel()
            for pool in (self._encoder, self._scorer):
                pool.shutdown(wait=False, cancel_futures=True)

    async def score(self, count: int, encode: Callable[[], list[Encoded]]) -> Scored:
        """Rewards of `count` responses, which `encode` makes into sequences, in a thread of its own.

        Cancelling it frees the places. Raises Refused: 422 for more than one request may hold, 503 when the line is
        full, 500 where the model gives no finite reward; and whatever `encode` raises.
        """
        with self._places(count):
            loop = asyncio.get_running_loop()
            sequences = await loop.run_in_executor(self._encoder, encode)
            if not sequences:
                return Scored([], 0)
            waiting = _Waiting(sequences, loop.create_future())
            self._line.append(waiting)
            self._came.set()
            return await waiting.answer

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        if count > self.limits.responses:
            raise Refused(422, f"{count} responses, and a request may have {self.limits.responses}. Send several")
        if self.admitted + count > self.limits.queue:
            wait = min(LONGEST_WAIT, math.ceil(self.admitted * self._seconds_each) or 1)
            raise Refused(503, f"the line is full: {self.admitted} responses. Come again", wait)
        self.admitted += count
        try:
            yield
        finally:
            self.admitted -= count

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._came.wait()
            self._came.clear()
            while batch := self._take():
                start = time.monotonic()
                outcomes = await loop.run_in_executor(self._scorer, self._score, batch)
                count = sum(len(waiting.sequences) for waiting in batch)
                self._seconds_each += 0.1 * ((time.monotonic() - start) / count - self._seconds_each)
                self.metrics.batch.observe(count)
                for waiting, outcome in zip(batch, outcomes, strict=True):
                    self._answer(waiting, outcome)

    def _take(self) -> list[_Waiting]:
        """The next batch, less those whose clients have left."""
        batch: list[_Waiting] = []
        tokens = 0
        while self._line:
            waiting = self._line[0]
            if not waiting.answer.done():
                if batch and tokens + waiting.tokens > self.limits.batch_tokens:
                    break
                batch.append(waiting)
                tokens += waiting.tokens
            self._line.popleft()
        return batch

    def _score(self, batch: list[_Waiting]) -> list[list[float] | Exception]:
        """What became of each, in the scoring thread. Where a batch fails, each is tried alone."""
        try:
            values = iter(self.model.score_encoded([s for waiting in batch for s in waiting.sequences]))
            return [[next(values) for _ in waiting.sequences] for waiting in batch]
        except Exception as error:  # noqa: BLE001 - whatever it is, the others still want their rewards
            return [error] if len(batch) == 1 else [self._score([waiting])[0] for waiting in batch]

    def _answer(self, waiting: _Waiting, outcome: list[float] | Exception) -> None:
        if waiting.answer.done():
            return
        if isinstance(outcome, Exception):
            say(f"serve: scoring failed with {type(outcome).__name__}")
            waiting.answer.set_exception(Refused(500, "the model could not score this request"))
        elif not all(map(math.isfinite, outcome)):
            waiting.answer.set_exception(Refused(500, "the model gave a reward that is not finite"))
        else:
            self.metrics.tokens.inc(waiting.tokens)
            waiting.answer.set_result(Scored(outcome, waiting.tokens))
