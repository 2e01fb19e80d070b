"""Whose turn it is to send: requests wait in line until an endpoint has room and the budget allows the worst case.

Joins `pool.Pool` and `budget.Budget`, which do the counting, to asyncio. First come, first served. Knows nothing of
requests but what they may cost.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple

from reward_distiller.errors import BudgetReached, EndpointError
from reward_distiller.teacher.budget import Budget, Reservation
from reward_distiller.teacher.cost import NOTHING, Cost
from reward_distiller.teacher.pool import Pool, Taken

LONGEST_OUTAGE = 900.0  # seconds that all endpoints may be gone; a restart of a large model takes ten minutes


class Turn(NamedTuple):
    """The right to send one request, to `taken.endpoint`. Each is to be given back by one of the methods of Turns."""

    taken: Taken
    reservation: Reservation


class Turns:
    """The turns of one model's requests."""

    def __init__(self, pool: Pool, budget: Budget):
        self._pool, self._budget = pool, budget
        self._line: deque[tuple[Cost, asyncio.Future[Turn]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    async def next(self, worst: Cost) -> Turn:
        """Wait for a turn. Raises BudgetReached, and EndpointError where no endpoint has been there for long."""
        if self._stopped:
            raise asyncio.CancelledError
        if not self._line and (turn := self._take(worst, time.monotonic())):
            return turn
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self._line.append((worst, future))
        if len(self._line) == 1:  # behind others, it has no more to hope for than they
            self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.failed(future.result(), NOTHING, reached=True)  # it was just given, and nothing will be sent
            raise

    def stop(self) -> None:
        """Give no turn any more: who waits is cancelled."""
        self._stopped = True
        for _, future in self._line:
            future.cancel()
        self._line.clear()

    def answered(self, turn: Turn, cost: Cost | None) -> None:
        self._pool.answered(turn.taken, time.monotonic())
        self._settle(turn, cost)

    def pushed_back(self, turn: Turn, retry_after: float | None) -> None:
        self._pool.pushed_back(turn.taken, time.monotonic(), retry_after)
        self._settle(turn, NOTHING)

    def failed(self, turn: Turn, cost: Cost | None, *, reached: bool) -> None:
        """`cost` is None where nobody knows whether the server counts it."""
        self._pool.failed(turn.taken, time.monotonic(), reached=reached)
        self._settle(turn, cost)

    @property
    def all_unreachable(self) -> bool:
        return self._pool.all_unreachable

    def _settle(self, turn: Turn, cost: Cost | None) -> None:
        self._budget.settle(turn.reservation, cost)
        if self._line:
            self._serve()

    def _serve(self) -> None:
        """Give turns to the first in line, as long as there are any to give."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        since = self._pool.out_since
        if since is not None and now - since > LONGEST_OUTAGE:
            self._fail_all(EndpointError(f"no endpoint has answered for {now - since:.0f} s. Run again when one does"))
        while self._line:
            worst, future = self._line[0]
            if future.done():  # called off while it waited
                self._line.popleft()
                continue
            try:
                turn = self._take(worst, now)
            except BudgetReached as error:
                self._fail_all(error)
                return
            if turn is None:
                self._wake_later(now)
                return
            self._line.popleft()
            future.set_result(turn)

    def _take(self, worst: Cost, now: float) -> Turn | None:
        """None until another call is settled, or an endpoint has room. Raises BudgetReached."""
        reservation = self._budget.reserve(worst)
        if reservation is None:
            return None
        taken = self._pool.take(now)
        if taken is None:
            self._budget.settle(reservation, NOTHING)
            return None
        return Turn(taken, reservation)

    def _wake_later(self, now: float) -> None:
        wake = self._pool.wake_at(now)
        if wake is not None and wake > now:  # now: an endpoint has room, and it is the budget that is waited for
            self._timer = asyncio.get_running_loop().call_later(wake - now, self._serve)

    def _fail_all(self, error: BudgetReached | EndpointError) -> None:
        for _, future in self._line:
            if not future.done():
                future.set_exception(error)
        self._line.clear()
