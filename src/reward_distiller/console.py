"""What a person sees while a command runs: progress bars on a terminal, plain lines elsewhere, on stderr.

Of several processes only the main one speaks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reward_distiller.processes import is_main

console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True, quiet=not is_main())
COLORS = {"red": 31, "yellow": 33}
PLAIN_EVERY = 15.0  # seconds between two lines of a long step where there is no terminal


def without_color() -> None:
    """For this process and those that it starts."""
    os.environ["NO_COLOR"] = "1"
    console.no_color = True


def colored(text: str, color: str) -> str:
    """For stdout: in that colour on a terminal that shows any, unless NO_COLOR is set; plain anywhere else."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\x1b[{COLORS[color]}m{text}\x1b[0m"


def say(text: str) -> None:
    console.print(text)


@contextmanager
def track(label: str, total: int, note: Callable[[], str] = str) -> Iterator[Callable[[], None]]:
    """Yield a function to call once for each of `total` pieces of work. `note` says what else is known by now."""
    done, start = 0, time.monotonic()
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        more = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False))
        with Progress(*columns, *more, console=console) as progress:
            task = progress.add_task(label, total=total, note="")

            def forward() -> None:
                nonlocal done
                done += 1
                rate = f"{done / max(time.monotonic() - start, 1e-9):.3g}/s"
                progress.update(task, advance=1, note=", ".join(filter(None, (rate, note()))))

            yield forward
        return
    last = start

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last > PLAIN_EVERY:
            last = now
            rate = done / (now - start)
            left = f"{rate:.3g}/s, {(total - done) / rate:.0f} s left"
            say(", ".join(filter(None, (f"{label}: {done}/{total}", left, note()))))

    yield advance
    say(", ".join(filter(None, (f"{label}: {done}/{total} in {time.monotonic() - start:.1f} s", note()))))
