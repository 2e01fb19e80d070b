"""Files that a run reads, each by its first row, and the folder that it writes. Nothing is left behind.

Hub data sets are not looked at: nobody downloads a data set to see whether it could be downloaded.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

from reward_distiller.config import AnyRun, Config, DataSource, PseudoRewards
from reward_distiller.construct.load import pair_of
from reward_distiller.errors import RewardDistillerError
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.benchmarks.reading import files_of
from reward_distiller.recipes.doctor.findings import Finding, ok, problem
from reward_distiller.recipes.doctor.machine import nearest
from reward_distiller.recipes.doctor.runs import sections
from reward_distiller.rows import Fields, rows_of


def check_data(run: AnyRun) -> Iterator[Finding]:
    for place, source in sections(run, DataSource):
        if source.path is not None:
            yield _first_row(run, place, source)
        elif source.hub is not None:
            yield ok(place, f"{source.hub} is read from the Hub when the run starts")
    if isinstance(run, Config):
        for name, path in run.evaluation.benchmarks.items():
            if path is not None:
                yield _benchmark(name, path)


def _first_row(run: AnyRun, place: str, source: DataSource) -> Finding:
    first = source.model_copy(update={"shuffle": False, "limit": 1})
    try:
        where, rows = rows_of(first)
        number, row = next(rows)
        fields = Fields(where, number, row, source.columns)
        kind = place.split(".")[0]
        if kind == "pairs" and isinstance(run, Config):
            pair_of(fields, scored=run.teacher is None)
        else:
            fields.prompt()
        if kind in ("responses", "demonstrations"):
            fields.response("response")
    except RewardDistillerError as error:
        return problem(place, str(error))
    return ok(place, f"{where}, its first row is readable")


def _benchmark(name: str, path: str) -> Finding:
    check = f"evaluation.benchmarks.{name}"
    try:
        files = files_of(benchmark_named(name), path)
    except RewardDistillerError as error:
        return problem(check, str(error))
    if missing := [str(file) for file in files if not Path(file).is_file()]:
        return problem(check, f"{missing[0]} is not there", "Check the path")
    return ok(check, f"{len(files)} {'file is' if len(files) == 1 else 'files are'} there")


def check_output(run: AnyRun) -> Iterator[Finding]:
    """The run folder and the ledger: writable, and nobody else's at the moment."""
    output = Path(run.output)
    yield _folder("output", output, output / ".lock")
    if isinstance(run, Config | PseudoRewards):
        yield _folder("ledger", run.ledger_path.parent, Path(f"{run.ledger_path}.lock"))


def _folder(check: str, folder: Path, lock: Path) -> Finding:
    there = nearest(folder)
    if not there.is_dir():
        return problem(check, f"{there} is a file", "Name a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return problem(check, f"{there} cannot be written ({error.strerror})", "Choose another place")
    if lock.exists() and _held(lock):
        return problem(check, f"{lock} is held by another run", "Wait for it to end, or use another output")
    return ok(check, f"{folder} can be written{'' if folder.exists() else '; it will be made'}")


def _held(lock: Path) -> bool:
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
