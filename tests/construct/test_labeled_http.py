"""`construct` whole, through the HTTP server with faults, killed and run again: the files are those of a calm run.

Which faults leave the outcome alone, and why:

- A transport fault (429, 500, reset, hang) is retried under the same sample index: no trace of it is left.
- A useless body uses up a sample. The server answers by the body alone, and the sample index is not on the
  wire, so the next sample's answer is the very one that the fault withheld; and faults stop after two asks
  of a body, one less than `max_asks`. So nothing ends in quarantine that would not have anyway.
- But what does end in quarantine is kept with all its raw texts, useless bodies among them. So the run with
  useless bodies has `garble: 0`, and the run with garbled answers has transport faults only.
- `garbage` is text, and to a question for free text (candidates, references) any text is an answer. So the
  rows bring their teacher responses along where garbage is among the faults.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, nullcontext
from pathlib import Path

import pytest
import yaml

from reward_distiller.config import load_config
from reward_distiller.files import write_rows
from reward_distiller.recipes.reward_model import construct_into
from reward_distiller.testbed.language import World
from reward_distiller.testbed.parts import TestbedParts as WorldParts  # pytest would collect a class called Test...
from reward_distiller.testbed.server import ModelServer, serve

ROWS = 40
FILES = ("pairs.jsonl", "balance.json", "quarantine.jsonl")
TRANSPORT = {"429": 0.15, "500": 0.1, "reset": 0.1, "hang": 0.03}
USELESS = {"truncated_json": 0.1, "empty_choices": 0.1, "html": 0.1, "garbage": 0.1}


def labeled_rows(teacher_response: bool) -> list[dict[str, str]]:
    """Labels are right; one response in three is verbose."""
    world, rng, rows = World(0), random.Random(0), []
    for text in world.prompts(ROWS, 0, "train"):
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


def construct(folder: Path, rows: Path, server: ModelServer, garble: float) -> list[str]:
    """Write the config of a run, and give its command."""
    config = {
        "scenario": "labeled",
        "output": str(folder),
        "pairs": {"path": str(rows)},
        "teacher": {
            "model": "teacher",
            "base_url": server.base_url,
            "concurrency": 6,
            "timeout": 1.5,
            "extra_body": {"testbed": {"garble": garble}},
        },
        "rm_distiller": {"beta": 0.0, "tau_s": 1.0},
        "student": {"model": "not-loaded-here"},
    }
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config))
    return [sys.executable, "-m", "reward_distiller.cli.entry", "construct", str(path)]


def run(command: list[str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return done.stderr


def run_and_kill(command: list[str], server: ModelServer, answers: int, ledger: Path | None = None) -> None:
    """Kill the run with SIGKILL when it has got so many further answers, whatever it is doing then.

    With a `ledger`, the server then falls silent, and the kill waits for an attempt that is in flight.
    """
    goal = server.written + answers
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while server.written < goal and child.poll() is None:
            time.sleep(0.001)
        with server.lock if ledger else nullcontext():  # no answer leaves without the lock
            while ledger and child.poll() is None:
                child.send_signal(signal.SIGSTOP)  # else what was in flight may be committed before the kill
                os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                if attempts_in_flight(ledger):
                    break
                child.send_signal(signal.SIGCONT)
                time.sleep(0.001)
            child.kill()
            assert child.wait() == -9


def attempts_in_flight(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as db:
        return db.execute("SELECT count(*) FROM attempts WHERE outcome IS NULL").fetchone()[0]


@pytest.mark.parametrize(
    ("faults", "garble", "teacher_response", "kills"),
    [(TRANSPORT, 0.25, False, 3), (TRANSPORT | USELESS, 0.0, True, 1)],
)
def test_faults_and_kills_change_nothing(tmp_path, faults, garble, teacher_response, kills):
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, labeled_rows(teacher_response))
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    with serve() as server:
        settings = load_config(construct(calm, rows, server, garble)[-1])
        construct_into(calm, settings, WorldParts(settings.testbed, settings.seed))
    with serve(faults=faults, latency=0.01, hang_seconds=2.0) as server:
        command = construct(rough, rows, server, garble)
        rng = random.Random()
        for kill in range(1, kills + 1):
            ledger = rough / "ledger.sqlite" if kill == kills else None
            run_and_kill(command, server, rng.randint(1, ROWS // 2), ledger)
        said = run(command)
    for name in FILES:
        assert (rough / name).read_bytes() == (calm / name).read_bytes(), name

    pairs = [json.loads(line) for line in (rough / "pairs.jsonl").read_text().splitlines()]
    assert {p["source"] for p in pairs} == {"labeled", "refined"}
    assert len(pairs) > ROWS / 2
    assert bool((rough / "quarantine.jsonl").read_bytes()) == (garble > 0)
    with sqlite3.connect(rough / "ledger.sqlite") as db:
        [(unknown, failed)] = db.execute(
            "SELECT sum(outcome IS NULL), sum(outcome = 'failed') FROM attempts"
        ).fetchall()
        twice = "SELECT key FROM attempts WHERE outcome = 'committed' GROUP BY key HAVING count(*) > 1"
        assert db.execute(twice).fetchall() == []
        assert unknown > 0
        assert failed > 0
        # What was paid for is in the ledger, except at most the calls in flight at each kill.
        [(committed,)] = db.execute("SELECT count(*) FROM responses").fetchall()
        assert committed <= server.written <= committed + unknown
    assert f"{unknown} attempts have no known outcome" in said
