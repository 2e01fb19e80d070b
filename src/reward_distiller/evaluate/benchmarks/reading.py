"""A benchmark's examples from a file, a folder or the Hub, every row of them used or counted with its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from reward_distiller.balance import Balance
from reward_distiller.config import DataSource, fill_data_folder
from reward_distiller.errors import BenchmarkError, DataError
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Unused
from reward_distiller.files import read_rows
from reward_distiller.rows import Fields, rows_of


def load(benchmark: Benchmark, path: str | None = None) -> tuple[list[Example], Balance]:
    """Its examples, from the Hub where no path is given.

    Raises BenchmarkError that says what was expected: for a missing or empty file, a row that lacks something, an id
    that stands there twice, and a file of another benchmark.
    """
    try:
        rows = _rows(benchmark, path)
        made = benchmark.read(rows)
        examples = [item for item in made if isinstance(item, Example)]
        _check_ids(benchmark, path, examples)
    except DataError as error:
        raise BenchmarkError(f"{error}. {benchmark.name} expects rows with {benchmark.expects}") from error
    balance = Balance(f"load {benchmark.name}", "rows", len(rows))
    for item in made:
        if isinstance(item, Unused):
            balance.lose("dropped", item.reason, item.row)
    balance.counts["kept"] = len(rows) - balance.counts["dropped"]
    return examples, balance.check()


def files_of(benchmark: Benchmark, path: str) -> list[Path]:
    """The file itself, or the benchmark's files in a folder. Raises DataError for a folder that has none."""
    place = Path(fill_data_folder(path))
    if not place.is_dir():
        return [place]
    files = [file for pattern in benchmark.files for file in sorted(place.glob(pattern))]
    if not files:
        raise DataError(place, f"no file of {benchmark.name} lies there", mend=f"Put in {' or '.join(benchmark.files)}")
    return list(dict.fromkeys(files))


def _rows(benchmark: Benchmark, path: str | None) -> list[Fields]:
    if path is None:
        return _hub_rows(benchmark)
    return [fields for file in files_of(benchmark, path) for fields in _file_rows(file)]


def _file_rows(file: Path) -> list[Fields]:
    return [Fields(str(file), number, row, {}) for number, row in read_rows(file)]


def _hub_rows(benchmark: Benchmark) -> list[Fields]:
    if benchmark.hub is None:
        raise DataError(
            benchmark.name, "it has no data set on the Hub", mend=f"Name its file: {benchmark.name}=FILE_OR_FOLDER"
        )
    found = []
    for split in benchmark.hub.splits:
        where, rows = rows_of(DataSource(hub=benchmark.hub.id, subset=benchmark.hub.subset, split=split))
        found += [Fields(f"{where}/{split}", number, row, {}) for number, row in rows]
    return found


def _check_ids(benchmark: Benchmark, path: str | None, examples: list[Example]) -> None:
    where = path or benchmark.name
    if not examples:
        raise DataError(where, "no row makes an example", mend="Check that it is this benchmark's file")
    (name, count), *_ = Counter(example.id for example in examples).most_common(1)
    if count > 1:
        raise DataError(where, f"{count} examples have the id {name!r}", mend="Give each its own")
