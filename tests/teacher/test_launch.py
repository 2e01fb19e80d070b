"""Servers started by a run: started when needed, waited for, and gone with the run however that ends.

`stand_in_server.py` stands in for `vllm serve`. Run as a program (`python test_launch.py FOLDER`) this asks it and then
waits, for the test that kills it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reward_distiller.config import ChatModel
from reward_distiller.errors import EndpointError
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.questions import Answer, Question

QUESTIONS = [Question(str(n), [{"role": "user", "content": f"number {n}"}], str) for n in range(3)]


def model(**fields) -> ChatModel:
    command = [sys.executable, str(Path(__file__).with_name("stand_in_server.py"))]
    return ChatModel(model="tiny", launch="vllm", **{"launch_command": command, "launch_timeout": 60.0, **fields})


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def gone(pid: int) -> bool:
    for _ in range(300):
        if not alive(pid):
            return True
        time.sleep(0.1)
    return False


def test_a_server_is_started_by_the_first_call_and_ends_with_the_run(tmp_path):
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine:
        assert not (tmp_path / "pid").exists()
        arguments = ["--pid", str(tmp_path / "pid")]
        outcomes = engine.ask(model(launch_args=arguments), "s", QUESTIONS)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        assert engine.ask(model(launch_args=arguments), "t", QUESTIONS[:1])["0"].text == outcomes["0"].text
    assert gone(pid)
    assert all(isinstance(outcome, Answer) for outcome in outcomes.values())


def test_what_the_ledger_answers_starts_no_server(tmp_path):
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine:
        engine.ask(model(), "s", QUESTIONS)
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine:
        found = engine.ask(model(launch_command=["no-such-program"]), "s", QUESTIONS)
    assert all(isinstance(outcome, Answer) for outcome in found.values())


def test_a_program_that_is_not_there_is_named(tmp_path):
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine, pytest.raises(EndpointError, match="no-such-program"):
        engine.ask(model(launch_command=["no-such-program"]), "s", QUESTIONS)


def test_a_server_that_ends_as_it_starts_is_quoted(tmp_path):
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine, pytest.raises(EndpointError, match="no such model"):
        engine.ask(model(launch_args=["--fail"]), "s", QUESTIONS)


def test_a_server_that_never_gets_healthy_is_ended(tmp_path):
    late = model(launch_args=["--never", "--pid", str(tmp_path / "pid")], launch_timeout=5.0)
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine, pytest.raises(EndpointError, match="launch_timeout"):
        engine.ask(late, "s", QUESTIONS)
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_killed_run_takes_its_server_along(tmp_path):
    with subprocess.Popen([sys.executable, __file__, str(tmp_path)]) as run:
        for _ in range(600):
            if (tmp_path / "answered").exists():
                break
            time.sleep(0.1)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        run.send_signal(signal.SIGKILL)
    assert gone(pid)


def _run(folder: Path) -> None:
    with open_engine(folder / "ledger.sqlite", {}) as engine:
        engine.ask(model(launch_args=["--pid", str(folder / "pid")]), "s", QUESTIONS)
        (folder / "answered").touch()
        time.sleep(600)


if __name__ == "__main__":
    _run(Path(sys.argv[1]))
