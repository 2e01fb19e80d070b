"""The reward server under load: many clients at once, every reward compared with the offline one.

    python -m bench.serve --model DIR          a reward model of the testbed; writes build/bench-serve.json

The server is a process of its own, `reward-distiller serve`; all clients are tasks of this one. A request has four
responses to one of the testbed's test prompts. Its latency is the client's, from sending to the last byte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from bench.machine import facts
from bench.settings import ROOT
from reward_distiller.config import World as WorldSettings
from reward_distiller.console import say
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.testbed.benchmark import style_items
from reward_distiller.testbed.language import World

PROMPTS, RESPONSES = 2000, 4
TO_START = 120.0  # seconds
Row = tuple[str, list[str]]


def rows(prompts: int) -> list[Row]:
    """Prompts that differ, with four of their six responses."""
    settings = WorldSettings()
    items = style_items(World(settings.seed), prompts, 0)
    return [(item.prompt.messages[-1].content, [*item.chosen, *item.rejected][:RESPONSES]) for item in items]


@contextmanager
def served(model: str, threads: int, log: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "reward_distiller", "serve", model, f"--port={port}", f"--threads={threads}"]
    with log.open("w") as out, subprocess.Popen(command, stderr=out, cwd=ROOT) as server:
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + TO_START
            while True:
                try:
                    httpx.get(f"{url}/health").raise_for_status()
                    break
                except httpx.TransportError:
                    if server.poll() is not None or time.monotonic() > end:
                        raise SystemExit(f"the server did not start; {log} says why") from None
                    time.sleep(0.1)
            yield url
        finally:
            server.terminate()


async def load(url: str, asked: list[Row], expected: list[list[float]], clients: int) -> dict[str, Any]:
    """All requests, `clients` at a time. Nothing is asked twice: what is no answer with as many rewards is an error."""
    todo = iter(enumerate(asked))
    statuses: Counter[str] = Counter()
    seconds, worst = [], 0.0
    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def client() -> None:
            nonlocal worst
            for number, (prompt, responses) in todo:
                start = time.perf_counter()
                try:
                    body = {"prompt": prompt, "responses": responses}
                    async with session.post(f"{url}/v1/rewards", json=body) as reply:
                        answer = await reply.json()
                        statuses[str(reply.status)] += 1
                except aiohttp.ClientError as error:
                    statuses[type(error).__name__] += 1
                    continue
                seconds.append(time.perf_counter() - start)
                if reply.status == 200:
                    pairs = zip(answer["rewards"], expected[number], strict=True)
                    worst = max([worst, *(abs(a - b) for a, b in pairs)])

        start = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        took = time.perf_counter() - start
    cuts = statistics.quantiles(seconds, n=1000)
    return {
        "requests": len(asked),
        "clients": clients,
        "responses_each": RESPONSES,
        "statuses": dict(statuses),
        "seconds": took,
        "requests_per_second": len(asked) / took,
        "p50_ms": 1000 * cuts[499],
        "p99_ms": 1000 * cuts[989],
        "longest_ms": 1000 * max(seconds),
        "largest_difference": worst,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.serve", description="The reward server under load.")
    parser.add_argument("--model", required=True, help="folder of a testbed reward model")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2, help="the server's")
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench-serve.json")
    given = parser.parse_args()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # all is on loopback, whatever proxy the machine has
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    known = rows(min(PROMPTS, given.requests))
    offline = RewardModel.from_pretrained(given.model, device="cpu")
    rewards = [offline.score(*row) for row in known]
    del offline
    asked = [at % len(known) for at in range(given.requests)]
    with served(given.model, given.threads, given.output.with_suffix(".log")) as url:
        found = asyncio.run(load(url, [known[at] for at in asked], [rewards[at] for at in asked], given.clients))
        figures = httpx.get(f"{url}/metrics").text
    sizes = {
        name: float(line.split()[1])
        for name in ("sum", "count")
        for line in figures.splitlines()
        if line.startswith(f"reward_distiller_batch_responses_{name} ")
    }
    found["responses_per_batch"] = sizes["sum"] / sizes["count"]
    given.output.write_text(json.dumps({"machine": facts("cpu"), **found}, indent=1) + "\n")
    say(json.dumps(found, indent=1))
    return 0 if found["statuses"] == {"200": given.requests} and found["largest_difference"] < 1e-4 else 1


if __name__ == "__main__":
    raise SystemExit(main())
