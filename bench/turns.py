"""Taking turns: every side is a process of its own, and only the one that is asked computes.

One JSON object a line, asked on the child's stdin and answered on its stdout. Knows no models. Standard library only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Side:
    """The asking end. What the child prints otherwise goes into `log`."""

    def __init__(self, name: str, command: list[str], log: Path, cwd: Path):
        self.name, self.log = name, log
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=cwd,
                env=environment,
            )

    def ready(self) -> dict[str, Any]:
        """Wait for its first word, that it has loaded."""
        return self._read()

    def ask(self, **message: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return self._read()

    def end(self) -> dict[str, Any]:
        """The last answer: what the side cost in all."""
        answer = self.ask(do="end")
        self.process.wait(60)
        return answer

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise RuntimeError(f"side {self.name} ended (exit {self.process.wait()}); the end of {self.log}:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Turns:
    """The answering end. Takes stdout for itself: whatever else is printed goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def say(self, **message: Any) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()

    def next(self) -> dict[str, Any]:
        """The next request; ends the process where the asker is gone."""
        line = sys.stdin.readline()
        if not line:
            raise SystemExit("nobody asks any more")
        request: dict[str, Any] = json.loads(line)
        return request
