"""A side that asks the testbed's server, as a process that works when it is its turn: a bare client, or our engine.

python -m bench.teacher_worker bare|httpx|ours BODIES

BODIES holds one request a line. `bare` is aiohttp, which our transport stands on, posting them with the same
concurrency and reading the answers, nothing else; `httpx` is the same with the client below OpenAI's own library.
`ours` is `Engine.ask` through a fresh ledger on disk, so it also commits every call and parses every answer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from bench.process import peak_memory_mb
from bench.turns import Turns
from reward_distiller.config import ChatModel
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.parsing import parse_pair_scores
from reward_distiller.teacher.questions import Answer, Question

Bodies = Iterator[dict[str, Any]]


class Bare:
    """Workers that share an iterator of bodies, over one client."""

    def __init__(self, bodies: Bodies):
        self.bodies = list(bodies)

    def run(self, url: str, calls: int, concurrency: int, folder: Path) -> int:
        return asyncio.run(self._all(f"{url}/chat/completions", calls, concurrency))

    async def _all(self, url: str, calls: int, concurrency: int) -> int:
        rest = iter(self.bodies[:calls])
        async with self._client() as client:

            async def worker() -> int:
                return sum([await self._post(client, url, body) for body in rest])

            return sum(await asyncio.gather(*(worker() for _ in range(concurrency))))

    def _client(self) -> Any:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))

    async def _post(self, client: Any, url: str, body: dict[str, Any]) -> bool:
        async with client.post(url, json=body) as answer:
            return bool(await answer.read()) and answer.status == 200


class BareHttpx(Bare):
    def _client(self) -> Any:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(limits=limits, timeout=None)

    async def _post(self, client: Any, url: str, body: dict[str, Any]) -> bool:
        return (await client.post(url, json=body)).status_code == 200


class Ours:
    def __init__(self, bodies: Bodies):
        self.questions = []
        for number, body in enumerate(bodies):
            self.questions.append(Question(str(number), body["messages"], parse_pair_scores))
            self.extra_body = {"testbed": body["testbed"]}

    def run(self, url: str, calls: int, concurrency: int, folder: Path) -> int:
        model = ChatModel(model="teacher", base_url=url, concurrency=concurrency, extra_body=self.extra_body)
        with open_engine(folder / "ledger.sqlite", {}) as engine:
            outcomes = engine.ask(model, "bench", self.questions[:calls])
        return sum(isinstance(outcome, Answer) for outcome in outcomes.values())


def main(side: str, bodies: Path) -> None:
    turns = Turns()
    with bodies.open("rb") as lines:  # one at a time: memory that is free again would hide what the calls take
        runner = {"bare": Bare, "httpx": BareHttpx, "ours": Ours}[side](map(json.loads, lines))
    turns.say(peak_memory_mb=peak_memory_mb())
    while (request := turns.next())["do"] != "end":
        start = (time.perf_counter(), time.process_time())
        answers = runner.run(request["url"], request["calls"], request["concurrency"], Path(request["folder"]))
        seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        turns.say(seconds=seconds, cpu_seconds=cpu, answers=answers)
    turns.say(peak_memory_mb=peak_memory_mb())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
