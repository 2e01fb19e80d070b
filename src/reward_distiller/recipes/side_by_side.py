"""Runs of the command line as child processes, so many at once, each with its own log.

A child ends with this process, however that ends: its stdin is a pipe that only this process holds, and
`cli/entry.py` watches it. What one child needs and another command is making is waited for. Knows no configs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import reward_distiller
from reward_distiller.console import say
from reward_distiller.errors import ConfigError, RunFailed
from reward_distiller.files import locked
from reward_distiller.processes import PARENT_PIPE

POLL = 0.1  # seconds
TO_STOP = 30.0  # seconds for a child to end by itself
LAST_LINES = 15


def _failure(title: str, code: int, log: Path) -> RunFailed:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
    except OSError:
        lines = []
    said = "".join(f"\n  {line}" for line in lines)
    return RunFailed(title, code if code > 0 else 128 - code, f"The last lines of {log}:{said}")  # below 0: a signal


@dataclass(frozen=True)
class Job:
    """One command of ours. FOLDER.lock says who runs it, FOLDER.log takes what it prints.

    It starts when no job of the folders that it is `after` is left.
    """

    title: str
    folder: Path
    arguments: tuple[str, ...]
    is_done: Callable[[], bool]
    after: frozenset[Path] = frozenset()

    def beside(self, ending: str) -> Path:
        return self.folder.with_name(self.folder.name + ending)


@dataclass
class _Child:
    job: Job
    process: subprocess.Popen[bytes]
    held: ExitStack
    started: float = field(default_factory=time.monotonic)


def run_side_by_side(jobs: Sequence[Job], processes: int) -> None:
    """Run all jobs, at most `processes` at once, earlier ones first where they can start.

    After a failure no more are started, and the first one is raised.
    """
    waiting, failures = list(jobs), list[RunFailed]()
    with _children() as running:
        while running or (waiting and not failures):
            for job in [] if failures else list(waiting):
                if len(running) >= processes:
                    break
                if job.after & {other.folder for other in [*waiting, *(child.job for child in running)]}:
                    continue
                if (held := _hold(job)) is None:  # another command runs it
                    continue
                waiting.remove(job)
                if job.is_done():
                    held.close()
                    say(f"{job.title}: done by another command")
                else:
                    running.append(_start(job, held))
            time.sleep(POLL)
            for child in [c for c in running if c.process.poll() is not None]:
                running.remove(child)
                failures.extend(_ended(child))
    if failures:
        raise failures[0]


def _hold(job: Job) -> ExitStack | None:
    """The job's lock, or None where another command has it, or a child of one that was killed is still ending."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(job.beside(".lock"), ConfigError))
            with locked(job.folder / ".lock", ConfigError):
                return held.pop_all()
        except ConfigError:
            return None


def _start(job: Job, held: ExitStack) -> _Child:
    package = str(Path(reward_distiller.__file__).parents[1])
    environment = {**os.environ, PARENT_PIPE: "1"}
    environment["PYTHONPATH"] = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    say(f"{job.title}: started; {job.beside('.log')}")
    with open(job.beside(".log"), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "reward_distiller", *job.arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C comes to this process alone, which passes it on once
        )
    return _Child(job, process, held)


def _ended(child: _Child) -> Iterator[RunFailed]:
    """Let go of a child that has ended; give its failure if it is one."""
    code = child.process.returncode
    _let_go(child)
    if code:
        failure = _failure(child.job.title, code, child.job.beside(".log"))
        say(f"error: {failure}")
        yield failure
    else:
        say(f"{child.job.title}: done in {time.monotonic() - child.started:.0f} s")


def _let_go(child: _Child) -> None:
    assert child.process.stdin is not None
    child.process.stdin.close()
    child.held.close()


@contextmanager
def _children() -> Iterator[list[_Child]]:
    """A list of children; what is still in it at the end is ended."""
    running: list[_Child] = []
    try:
        yield running
    finally:
        for child in running:
            assert child.process.stdin is not None
            child.process.stdin.close()  # it is interrupted, and may save what was paid for
        until = time.monotonic() + TO_STOP
        for child in running:
            try:
                child.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            child.held.close()
