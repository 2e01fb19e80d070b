"""The tutorial's commands run as its page has them, in order, in an empty folder, and print what the page shows."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pages import DOCS, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PORT = "8321"  # the page's; another machine, another free one


@pytest.fixture
def here(tmp_path) -> Path:
    """An empty folder, and the command of this very checkout beside it."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "reward-distiller"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m reward_distiller.cli.entry "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    (tmp_path / "work").mkdir()
    return tmp_path


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def said(command: str, here: Path) -> str:
    """All that a block's commands print. Whatever they have started ends with them."""
    environment = {**os.environ, "PATH": f"{here / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        ["bash", "-e", "-o", "pipefail", "-c", command],
        cwd=here / "work",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=900)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
            left = True
        except ProcessLookupError:
            left = False
    assert process.returncode == 0, f"{command}\n{output}"
    assert not left, f"something that this has started goes on:\n{command}"
    return output


def shown(line: str) -> re.Pattern[str]:
    """A line of the page as what it stands for: `...` is anything, and spaces are as wide as they come."""
    words = r"\s+".join(re.escape(word) for word in line.split())
    return re.compile(words.replace(re.escape("..."), ".*"))


def test_the_tutorial(here) -> None:
    port = free_port()
    output, commands, shows = "", 0, 0
    for block in blocks(DOCS / "tutorial.md"):
        if block.language == "bash":
            output = said(block.text.replace(PORT, port), here)
            commands += 1
        elif block.language == "text":
            for line in block.text.splitlines():
                assert shown(line).search(output), f"{line!r} is shown, and not printed:\n{output[-4000:]}"
                shows += 1
    assert commands == 10
    assert shows > 30
