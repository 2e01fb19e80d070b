"""Files that are there whole or not at all, rows in JSONL, JSON and Parquet, and a lock for a run folder.

Knows no record types: a row is a dict with its number in the file (from 1).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from reward_distiller.errors import DataError, FileError, LedgerError, RewardDistillerError

Row = dict[str, Any]
PARTIAL = ".partial"  # ends the name of everything that is being written
LONGEST_LINE = 2**26  # bytes that are read at once: ten times what a conversation of a million tokens takes


def write_text(path: str | Path, text: str) -> None:
    """Replace a file in one step: write beside it, flush to disk, rename."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    with new_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file that appears under its name, or replaces what is there, when the block has written it without an error."""
    path = Path(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise FileError(
            f"{path} cannot be written ({reason}). Make room or choose another place, then run again"
        ) from error


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(path: str | Path) -> None:
    """Find out before hours of work whether rows can be written there. Raises FileError."""
    path = Path(path)
    if path.suffix not in (".jsonl", ".parquet"):
        raise FileError(f"{path}: rows are written as .jsonl or .parquet. Name it so")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise PermissionError(errno.EACCES, "it is a folder, or its folder is closed")


def write_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows as Parquet where the name ends so, as JSONL otherwise."""
    if Path(path).suffix == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows)), sink)
        write_bytes(path, sink.getvalue().to_pybytes())
    else:
        write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def append_rows(path: str | Path, rows: Iterable[Row]) -> None:
    """Add rows to the end of a JSONL file. A process that is killed meanwhile may leave the last one torn."""
    with _writing(Path(path)), open(path, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


@contextlib.contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block has filled it without an error."""
    path = Path(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL))
        try:
            yield temporary
            os.chmod(temporary, 0o755)
            for file in temporary.rglob("*"):  # some writers keep files to their owner; a server may be another user
                file.chmod(0o755 if file.is_dir() else 0o644)
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove_partial(folder: str | Path) -> None:
    """Remove what a killed process left half-written. Only for who holds the folder's lock."""
    for left in Path(folder).rglob(f".*{PARTIAL}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def link(path: str | Path, target: str | Path) -> None:
    """A relative symbolic link to what is there, in the place of a link that was there; a folder is never replaced.

    Raises FileError where something else is in the way.
    """
    path = Path(path)
    if path.exists() and not path.is_symlink():
        raise FileError(f"{path} is in the way of a link to {target}. Move it")
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)
        partial.symlink_to(os.path.relpath(target, path.parent))
        os.replace(partial, path)


def fingerprint(path: str | Path) -> str:
    """The contents of a local folder or file as one hash; anything else (a Hub id) stands for itself.

    A folder's own files count, but for hidden ones and texts (.md): a model does what it does whatever its card says.
    """
    place = Path(path)
    if place.is_file():
        files = [place]
    elif place.is_dir():
        files = sorted(p for p in place.iterdir() if p.is_file() and not p.name.startswith(".") and p.suffix != ".md")
    else:
        return str(path)
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as opened:
            digest.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def read_rows(path: str | Path) -> Iterator[tuple[int, Row]]:
    """Rows of a .jsonl, .json or .parquet file, .gz allowed on the first two, with their numbers from 1.

    A .json file holds a list of rows, or an object of such lists, whose rows are read one list after the other.
    Raises DataError for a file that is missing, empty, not UTF-8, not of its format, or that holds a row which is
    not an object.
    """
    path = Path(path)
    if not path.is_file():
        problem = "it is a folder" if path.is_dir() else "there is no such file"
        raise DataError(path, problem, mend="Check the path; it is relative to where you run")
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    reader = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".parquet": _parquet}.get(kind)
    if reader is None:
        raise DataError(path, f"the ending {kind!r} is none that is read", mend="Use .jsonl, .json or .parquet")
    count = 0
    for number, row in reader(path):
        if not isinstance(row, dict):
            raise DataError(
                path, f"a {type(row).__name__}, not an object", row=number, mend='Write each row as {"field": value}'
            )
        count += 1
        yield number, row
    if not count:
        raise DataError(path, "the file holds no row", mend="Check how it was written")


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, or of a .gz one, with their numbers from 1, in constant memory; blank ones are left out.

    Raises DataError for a file that is missing or cannot be read, and for a line of more than LONGEST_LINE bytes.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number in itertools.count(1):
                line = file.readline(LONGEST_LINE + 1)
                if len(line) > LONGEST_LINE:
                    problem = f"the line has more than {LONGEST_LINE} bytes"
                    raise DataError(path, problem, row=number, mend="Write one object a line")
                if not line:
                    return
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(path, f"cannot be read ({error})", mend="Check the path, and how it was written") from error


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(path, f"cannot be read as text ({error})", mend="Save it as UTF-8") from error


def _jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_text(path).split("\n"), 1):
        if line.strip():
            yield number, _parse(path, line, number)


def _json(path: Path) -> Iterator[tuple[int, Any]]:
    rows = _parse(path, _text(path), None)
    if isinstance(rows, dict) and rows and all(isinstance(part, list) for part in rows.values()):
        rows = [row for part in rows.values() for row in part]
    if not isinstance(rows, list):
        raise DataError(path, "not a list of rows", mend="Write [{...}, {...}], or use .jsonl")
    yield from enumerate(rows, 1)


def _parse(path: Path, text: str, row: int | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise DataError(path, f"not valid JSON ({error})", row=row, mend="Mend or remove it") from error


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        batches = (batch.to_pylist() for batch in pq.ParquetFile(path).iter_batches())
        yield from enumerate((row for rows in batches for row in rows), 1)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"not a Parquet file ({error})", mend="Check how it was written") from error


@contextlib.contextmanager
def locked(path: str | Path, error: type[RewardDistillerError] = LedgerError, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock; it ends with the process, however that ends. `wait` for it, or raise where it is held."""
    path = Path(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115 - closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as cause:
            raise error(f"{path} is held by another run. Wait for it to end, or use another output") from cause
        yield
