"""A ledger of millions of calls: how long it takes to open, and how many keys it looks up a second.

    python -m bench.ledger_scale              # 5,000,000 rows, about 10 GB, in a temporary folder
    python -m bench.ledger_scale --rows 300000 --work runs/scale --output runs/scale/results.json

The ledger is built through the package's own writer, in groups, with bodies of 1 KB and requests of a quarter of that.
With --work it stays there, and is used again where it has as many rows. One attempt in ten thousand is left without an
outcome, so that opening has some to count. Keys are drawn at random among all rows, or taken as they stand, which is
how a run that goes on asks for them. `cold` is after the operating system has been told to drop the file's pages,
`warm` the same keys again. What a host below a virtual machine keeps in its own memory cannot be dropped from here.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reward_distiller.console import say, track
from reward_distiller.files import write_json
from reward_distiller.records import canonical_json
from reward_distiller.teacher.ledger import Call, Ledger, LedgerReader, Stored, request_key
from reward_distiller.teacher.worst_case import worst_case

ROWS, LOOK_UPS = 5_000_000, 20_000
BODY, PROMPT = 1024, 100  # bytes; the rest of a request takes 150 more
GROUP = 20_000  # rows in a transaction: what takes the time is the scattered pages of the keys' index
LOST_EVERY = 10_000  # one attempt in so many has no outcome
OPENINGS = 5  # the median is given


def request(number: int) -> dict[str, Any]:
    """A question like a run's, the same for the same number."""
    text = random.Random(number).randbytes(PROMPT // 2).hex()
    sampling = {"temperature": 0.0, "top_p": 1.0, "max_tokens": 1024}
    return {"model": "teacher", "messages": [{"role": "user", "content": text}], **sampling, "sample": 0}


def build(path: Path, rows: int) -> float:
    """Seconds that it took. The file has its name when it is complete."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.unlink(missing_ok=True)
    body = random.Random("bodies").randbytes(BODY + rows)  # a window that moves makes each body another one
    start = time.perf_counter()
    with Ledger.open(unfinished) as ledger, track("build", -(-rows // GROUP)) as advance:
        for first in range(0, rows, GROUP):
            numbers = range(first, min(first + GROUP, rows))
            calls = [_call(request(number)) for number in numbers]
            answered = [row for row in zip(numbers, ledger.begin(calls), calls, strict=True) if row[0] % LOST_EVERY]
            ledger.finish([(attempt, c.key, Stored(body[n : n + BODY], 50, 250)) for n, attempt, c in answered])
            advance()
    unfinished.rename(path)
    return time.perf_counter() - start


def _call(asked: dict[str, Any]) -> Call:
    return Call(request_key(asked), "teacher", canonical_json(asked), "scale", *worst_case(asked))


def drop_pages(path: Path) -> None:
    """Have the operating system read the file from the disk again."""
    os.sync()  # only pages that are written can be dropped
    file = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(file)


@contextmanager
def opened(path: Path, writing: bool) -> Iterator[LedgerReader]:
    with Ledger.open(path) if writing else Ledger.read(path) as ledger:
        yield ledger


def seconds_to_open(path: Path, writing: bool, cold: bool) -> float:
    taken = []
    for _ in range(OPENINGS):
        if cold:
            drop_pages(path)
        start = time.perf_counter()
        with opened(path, writing):
            taken.append(time.perf_counter() - start)
    return sorted(taken)[OPENINGS // 2]


def one_by_one(ledger: LedgerReader, keys: Sequence[str]) -> int:
    return sum(ledger.get(key) is not None for key in keys)


def at_once(ledger: LedgerReader, keys: Sequence[str]) -> int:
    return len(ledger.get_many(keys))


def look_ups(
    path: Path, keys: Sequence[str], answered: int, look: Callable[[LedgerReader, Sequence[str]], int]
) -> dict:
    """Look-ups a second, cold and warm."""
    found = {}
    drop_pages(path)
    with Ledger.read(path) as ledger:
        for name in ("cold", "warm"):
            start = time.perf_counter()
            assert look(ledger, keys) == answered, "the ledger does not hold what was put into it"
            found[name] = len(keys) / (time.perf_counter() - start)
    return found


def measure(path: Path, rows: int) -> dict[str, Any]:
    numbers = {
        "random": random.Random(0).sample(range(rows), min(LOOK_UPS, rows)),
        "in order": range(rows // 2, min(rows, rows // 2 + LOOK_UPS)),
    }
    open_s = {
        f"{'write' if writing else 'read'}, {'cold' if cold else 'warm'}": seconds_to_open(path, writing, cold)
        for writing in (True, False)
        for cold in (True, False)
    }
    a_second = {}
    for order, drawn in numbers.items():
        keys = [request_key(request(number)) for number in drawn]
        answered = sum(number % LOST_EVERY > 0 for number in drawn)
        for name, look in (("one by one", one_by_one), ("get_many", at_once)):
            for state, rate in look_ups(path, keys, answered, look).items():
                a_second[f"{order}, {name}, {state}"] = rate
    return {"open_seconds": open_s, "look_ups_a_second": a_second}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--work", type=Path, help="folder for the ledger; default: a temporary one")
    parser.add_argument("--output", type=Path, default=Path("runs/ledger_scale.json"))
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory() as temporary:
        path = (arguments.work or Path(temporary)) / f"ledger-{arguments.rows}.sqlite"
        built = None if path.exists() else build(path, arguments.rows)
        results = {
            "rows": arguments.rows,
            "bytes": path.stat().st_size,
            "build_seconds": built,
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            **measure(path, arguments.rows),
        }
    write_json(arguments.output, results)
    print(f"{results['rows']} rows, {results['bytes'] / 2**30:.2f} GiB")
    for title, unit in (("open_seconds", "s"), ("look_ups_a_second", "/s")):
        for name, value in results[title].items():
            print(f"{title.split('_')[0]:<6}{name:<30}{value:>12.4g} {unit}")
    say(f"results: {arguments.output}")


if __name__ == "__main__":
    main()
