"""Group commit: all that came up since the last transaction goes into the next one.

A transaction waits for the disk, and a thousand calls a second cannot each wait for it. A call still does not go on
before its row is committed. Knows nothing of what the rows say.
"""

from __future__ import annotations

import asyncio

from reward_distiller.teacher.ledger import Call, Ledger, Outcome

Finished = tuple[int, str, Outcome]  # attempt, key, what it brought


class Commits:
    """`run` is the writer's task. It ends only by an error, and then nothing that waits is ever committed."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger
        self._begins: list[tuple[Call, asyncio.Future[int]]] = []
        self._finishes: list[tuple[Finished, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()

    async def begin(self, call: Call) -> int:
        """The id of an attempt, once its row is committed."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._begins.append((call, future))
        self._wake.set()
        return await future

    async def finish(self, attempt: int, key: str, outcome: Outcome) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finishes.append(((attempt, key, outcome), future))
        self._wake.set()
        await future

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(0)  # let every call that is ready add its row
            begins, self._begins = self._begins, []
            finishes, self._finishes = self._finishes, []
            ids = self._ledger.write([call for call, _ in begins], [row for row, _ in finishes])
            for (_, begun), attempt in zip(begins, ids, strict=True):
                if not begun.done():
                    begun.set_result(attempt)
            for _, ended in finishes:
                if not ended.done():
                    ended.set_result(None)

    def flush(self) -> None:
        """Commit what was received and not yet written, when the run stops: it was paid for."""
        self._ledger.write([], [row for row, _ in self._finishes])
        self._finishes = []
