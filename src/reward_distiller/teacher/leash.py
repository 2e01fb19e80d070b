"""A program that ends when its parent does: `python leash.py PROGRAM ARGUMENTS...`, stdin a pipe that the parent holds.

However the parent ends, SIGKILL among it, the pipe is closed then, and the program and all that it started are told to
end, and made to soon after. Run as a file, so that it loads nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

TO_STOP = 15.0  # seconds from SIGTERM to SIGKILL; a model server frees its memory in a few


def main() -> int:
    program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _end(program))

    def watch() -> None:
        while os.read(0, 1024):
            pass
        _end(program)

    threading.Thread(target=watch, daemon=True).start()
    return program.wait()


def _end(program: subprocess.Popen[bytes]) -> None:
    _signal(program, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        program.wait(TO_STOP)
    _signal(program, signal.SIGKILL)  # what it started may still be there


def _signal(program: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(program.pid, number)


if __name__ == "__main__":
    sys.exit(main())
