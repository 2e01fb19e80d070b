"""Labeled runs against the testbed's server: their rows and configs, and a child process that constructs."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

from reward_distiller.config import load_config
from reward_distiller.recipes.reward_model import construct_into
from reward_distiller.testbed.language import World
from reward_distiller.testbed.parts import TestbedParts as WorldParts  # pytest would collect a class called Test...
from reward_distiller.testbed.server import ModelServer

KEY = "sk-very-secret-0123456789"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["reward_distiller.recipes.reward_model", "reward_distiller.testbed.parts"])
FILES = ("pairs.jsonl", "balance.json", "quarantine.jsonl")


def labeled_rows(count: int, teacher_response: bool) -> list[dict[str, str]]:
    """Labels are right; one response in three is verbose."""
    world, rng, rows = World(0), random.Random(0), []
    for text in world.prompts(count, 0, "train"):
        task = world.read(text)
        assert task is not None
        right = world.right_items(task, rng)
        wrong = [world.wrong_item(task, right, 0, rng), *right[1:]]
        styles = [rng.choice(("concise", "concise", "detailed")) for _ in range(3)]
        written = zip((right, wrong, right), styles, strict=True)
        answers = [world.respond(task, items, style, rng) for items, style in written]
        row = {"prompt": text, "chosen": answers[0], "rejected": answers[1]}
        rows.append(row | ({"teacher_response": answers[2]} if teacher_response else {}))
    return rows


def configured(folder: Path, rows: Path, server: ModelServer, garble: float, **teacher: Any) -> Path:
    """The config of a run; `teacher` are further fields of that."""
    config = {
        "scenario": "labeled",
        "output": str(folder),
        "pairs": {"path": str(rows)},
        "teacher": {
            "model": "teacher",
            "base_url": server.base_url,
            "concurrency": 6,
            "timeout": 1.5,
            "api_key_env": "HOSTILE_KEY",
            "extra_body": {"testbed": {"garble": garble}},
            **teacher,
        },
        "rm_distiller": {"beta": 0.0, "tau_s": 1.0},
        "student": {"model": "not-loaded-here"},
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    return path


def construct(config: Path, said: Path | None = None) -> None:
    """Run it; what it says goes to a file where one is named."""
    if said is not None:
        with said.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    settings = load_config(config)
    construct_into(Path(settings.output), settings, WorldParts(settings.testbed, settings.seed))


@contextmanager
def child(config: Path, said: Path) -> Iterator[ForkServerProcess]:
    """A process of its own that constructs; from a server of forks, since most of a start is imports."""
    process = FORKS.Process(target=construct, args=(config, said))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def run_and_kill(config: Path, said: Path, server: ModelServer, answers: int) -> None:
    """Kill the run with SIGKILL when it has got so many further answers, whatever it is doing then."""
    goal = server.written + answers
    with child(config, said) as process:
        while server.written < goal and process.is_alive():
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
