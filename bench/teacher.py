"""How fast calls to a teacher are made: ours against two bare clients and Curator, and the memory that it takes.

python -m bench.teacher [--quick] [--sides bare,httpx,ours,curator] [--calls N] [--repeats N] [--memory-calls N]
                        [--output build/bench-teacher.json]

All ask the testbed's server, a process of its own, for the same scores of the same pairs, in turn. The server counts
what it answered, so nobody can be fast by asking less.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from bench.process import cpu_seconds
from bench.settings import ROOT
from bench.turns import Side
from reward_distiller.config import Annotation, ChatModel
from reward_distiller.construct.scoring import pair_questions
from reward_distiller.records import Prompt
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.prompts import Templates
from reward_distiller.testbed.language import World
from reward_distiller.testbed.models import reply

CURATOR_PYTHON = ROOT / ".venv-curator/bin/python"
SIDES = ("bare", "httpx", "ours", "curator")
USUAL = "bare,ours,curator"  # httpx takes ten times as long as the others together
CONCURRENCY = 256
DISTINCT_PROMPTS = 500  # each pair of responses is made from one of them; a number makes every question another one


@dataclass(frozen=True)
class Workload:
    name: str
    latency: float  # seconds before each answer

    @property
    def ideal(self) -> float | None:
        """Calls a second that the latency allows, None where it sets no limit."""
        return CONCURRENCY / self.latency if self.latency else None


WORKLOADS = (Workload("500_ms", 0.5), Workload("no_latency", 0.0))


@dataclass(frozen=True)
class Server:
    url: str
    pid: int

    def written(self) -> int:
        return int(httpx.get(f"{self.url.removesuffix('/v1')}/testbed/written", timeout=60).json()["written"])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def served(latency: float) -> Iterator[Server]:
    program = "from reward_distiller.cli.testbed import app; app()"  # the command's own, without loading torch first
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--latency", str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process.stdout.readline().split()[-1], process.pid)
        finally:
            process.kill()


def write_bodies(count: int, path: Path) -> None:
    """Requests for the scores of two responses, as a construction run sends them."""
    templates, rng = Templates(), random.Random(0)
    model = ChatModel(model="teacher", extra_body={"testbed": {"garble": 0.0}})  # each question is one call
    pairs = []
    for text in World(0).prompts(min(count, DISTINCT_PROMPTS), 0, "train"):
        asked = [{"role": "user", "content": text}]
        answers = [read_completion(reply({"model": name, "messages": asked})).text for name in ("novice", "expert")]
        pairs.append((Prompt.from_text(text), *rng.sample(answers, 2)))
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt, first, second = pairs[number % len(pairs)]
            shown = ("", prompt, first, f"{second} {number}")
            (question,) = pair_questions([shown], model, templates, Annotation())
            body = build_request(model, question.messages, 0)
            del body["sample"]
            file.write(json.dumps(body) + "\n")


def start(side: str, bodies: Path, logs: Path) -> Side:
    module = ["bench.curator_worker"] if side == "curator" else ["bench.teacher_worker", side]
    python = str(CURATOR_PYTHON) if side == "curator" else sys.executable
    return Side(side, [python, "-m", *module, str(bodies)], logs / f"teacher-{side}.log", ROOT)


def one_run(side: Side, server: Server, calls: int, folder: Path) -> dict[str, Any]:
    """What one run took, the server's share with it. Raises ValueError where not every call was made and answered."""
    before, server_cpu = server.written(), cpu_seconds(server.pid)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        took = side.ask(do="run", url=server.url, calls=calls, concurrency=CONCURRENCY, folder=own)
    took["server_cpu_seconds"] = cpu_seconds(server.pid) - server_cpu
    asked = server.written() - before
    if took["answers"] != calls or asked != calls:
        raise ValueError(f"side {side.name}: {took['answers']} answers and {asked} calls, not {calls}; see {side.log}")
    return took


def take_turns(workload: Workload, sides: dict[str, Side], calls: int, repeats: int, folder: Path) -> dict[str, Any]:
    """The row of one workload: every side in turn, who begins changing from repeat to repeat."""
    names = list(sides)
    timed: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with served(workload.latency) as server:
        for name in names:
            one_run(sides[name], server, min(calls, CONCURRENCY), folder)  # a first run imports and connects
        for repeat in range(repeats):
            for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
                timed[name].append(one_run(sides[name], server, calls, folder))
            shown = ", ".join(f"{name} {timed[name][-1]['seconds']:.2f} s" for name in names)
            say(f"{workload.name}: repeat {repeat + 1} of {repeats}: {shown}")
    return make_row(workload, calls, timed)


def make_row(workload: Workload, calls: int, timed: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    seconds = {name: [run["seconds"] for run in runs] for name, runs in timed.items()}
    rate = {name: calls / statistics.median(took) for name, took in seconds.items()}
    cpu = {name: statistics.median(run["cpu_seconds"] for run in runs) for name, runs in timed.items()}
    # Near 1 where the server was what limited the side.
    busy = {name: sum(r["server_cpu_seconds"] for r in runs) / sum(seconds[name]) for name, runs in timed.items()}
    ratios = {  # how many times as fast ours was, run by run
        f"ours_to_{name}": [theirs / ours for theirs, ours in zip(took, seconds.get("ours", ()), strict=True)]
        for name, took in seconds.items()
        if name != "ours" and "ours" in seconds
    }
    return {
        "name": workload.name,
        "calls": calls,
        "latency": workload.latency,
        "concurrency": CONCURRENCY,
        "ideal_per_second": workload.ideal,
        "per_second": rate,
        "ideal_share": {name: r / workload.ideal for name, r in rate.items()} if workload.ideal else None,
        "cpu_ms_per_call": {name: 1000 * took / calls for name, took in cpu.items()},
        # Far below 1 without latency, and with a server that is not busy: somebody else had the cores.
        "cores_used": {name: sum(r["cpu_seconds"] for r in runs) / sum(seconds[name]) for name, runs in timed.items()},
        "server_busy": busy,
        **{name: statistics.median(found) for name, found in ratios.items()},
        "ratios": ratios,
        "seconds": seconds,
    }


def measure_memory(bodies: Path, calls: int, folder: Path, logs: Path) -> dict[str, Any]:
    """Our engine's process alone, from before the first call to after the last."""
    with served(0.0) as server:
        side = start("ours", bodies, logs)
        try:
            before = side.ready()["peak_memory_mb"]
            took = one_run(side, server, calls, folder)
            peak = side.end()["peak_memory_mb"]
        finally:
            side.kill()
    say(f"memory: {peak:.0f} MB after {calls} calls, {before:.0f} MB before, in {took['seconds']:.1f} s")
    return {"calls": calls, "before_mb": before, "peak_mb": peak, "seconds": took["seconds"]}


def table(rows: list[dict[str, Any]], memory: dict[str, Any], peaks: dict[str, float]) -> str:
    lines = [
        "| workload | side | calls/s | of the ideal | ours is so many times as fast | CPU, ms a call | server busy |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        for name, rate in row["per_second"].items():
            share = f"{row['ideal_share'][name]:.1%}" if row["ideal_share"] else ""
            ratio = f"{row[f'ours_to_{name}']:.2f}" if f"ours_to_{name}" in row else ""
            cells = [row["name"], name, f"{rate:.0f}", share, ratio, f"{row['cpu_ms_per_call'][name]:.2f}"]
            lines.append(f"| {' | '.join([*cells, format(row['server_busy'][name], '.0%')])} |")
    lines += ["", "peak memory, MB: " + ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items())]
    if memory:
        lines.append(f"ours, {memory['calls']} calls: {memory['peak_mb']:.0f} MB ({memory['before_mb']:.0f} before)")
    return "\n".join(lines)


def measure(names: list[str], calls: int, repeats: int, memory_calls: int, output: Path) -> dict[str, Any]:
    """All workloads, then the memory. Ledgers and logs are written beside `output`."""
    logs = output.parent / "bench-logs"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as name:  # on the disk that the project is on
        folder = Path(name)
        write_bodies(calls, folder / "bodies.jsonl")
        sides: dict[str, Side] = {}
        try:
            for side in names:
                sides[side] = start(side, folder / "bodies.jsonl", logs)
            for process in sides.values():
                process.ready()
            rows = [take_turns(workload, sides, calls, repeats, folder) for workload in WORKLOADS]
            peaks = {side: process.end()["peak_memory_mb"] for side, process in sides.items()}
        finally:
            for process in sides.values():
                process.kill()
        memory = {}
        if "ours" in names and memory_calls:
            write_bodies(memory_calls, folder / "many.jsonl")
            memory = measure_memory(folder / "many.jsonl", memory_calls, folder, logs)
    return {"rows": rows, "peak_memory_mb": peaks, "memory": memory}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.teacher", description="Calls to a teacher, timed.")
    parser.add_argument("--quick", action="store_true", help="a few calls, once: does it run? No figures")
    parser.add_argument("--sides", default=USUAL, help=f"of {', '.join(SIDES)}")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-calls", type=int, default=100_000, help="0 leaves that part out")
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench-teacher.json")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    names = given.sides.split(",")
    if unknown := sorted(set(names) - set(SIDES)):
        say(f"side {unknown[0]!r} is none of {', '.join(SIDES)}")
        return 2
    if "curator" in names and not CURATOR_PYTHON.exists():
        say(f"{CURATOR_PYTHON} is not here. Make it with `make bench-teacher`, or give --sides without it")
        return 2
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):  # all is on loopback, whatever proxy the machine has
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    if given.quick:
        given.calls, given.repeats, given.memory_calls = 300, 1, 1000
    found = measure(names, given.calls, given.repeats, given.memory_calls, given.output)
    from bench.machine import facts  # it loads torch, which the tests of this file do without

    machine = {**facts("cpu"), "aiohttp": version("aiohttp"), "httpx": version("httpx")}
    given.output.write_text(json.dumps({"machine": machine, "quick": given.quick, **found}, indent=1) + "\n")
    print(table(found["rows"], found["memory"], found["peak_memory_mb"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
