"""What a person sees while a command runs: progress bars on a terminal, plain lines elsewhere, on stderr.

Of several processes only the main one speaks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reward_distiller.processes import is_main

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True, quiet=not is_main())
PLAIN_EVERY = 15.0  # seconds between two lines of a long step where there is no terminal


def say(text: str) -> None:
    console.print(text)


@contextmanager
def track(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call once for each of `total` pieces of work."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task(label, total=total)
            yield lambda: progress.advance(task)
        return
    done, start = 0, time.monotonic()
    last = start

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last > PLAIN_EVERY:
            last = now
            say(f"{label}: {done}/{total}, {(now - start) / done * (total - done):.0f} s left")

    yield advance
    say(f"{label}: {done}/{total} in {time.monotonic() - start:.1f} s")
