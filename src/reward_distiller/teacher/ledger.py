"""The ledger: one SQLite file in which every call to a teacher or candidate model is a row.

Write-ahead: an attempt's row is committed before its request is sent, and the raw response before
anything reads it. So a committed response is never bought again, and an attempt without an outcome is one whose process
died while it was in flight, or whose answer was lost on its way: it may or may not have been paid for, and is shown as
such. One process writes; any number read meanwhile. Knows nothing of HTTP or of what answers mean.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reward_distiller.errors import LedgerError
from reward_distiller.files import locked
from reward_distiller.processes import has_siblings
from reward_distiller.records import canonical_json
from reward_distiller.teacher.ledger_schema import migrate, require_current, version_of

BATCH = 500  # keys in one query; SQLite takes 32,766, and more than some hundreds gain nothing
READERS = 4  # connections that `get_many` reads with: a disk answers several requests in the time of one


def request_key(request: dict) -> str:
    """The content address of a call: its hash algorithm and the hash of what is asked (sample index included)."""
    return key_of_text(canonical_json(request))


def key_of_text(request: str) -> str:
    """The same, of a request's canonical JSON."""
    return "sha256:" + hashlib.sha256(request.encode()).hexdigest()


def require_file(path: str | Path) -> None:
    """Raise LedgerError where there is no such file, which opening for writing would make."""
    if not Path(path).is_file():
        problem = "is a folder" if Path(path).is_dir() else "is not there"
        raise LedgerError(f"{path} {problem}; a ledger is one file. Check the path, relative to where you run")


class Call(NamedTuple):
    """What is written before a request is sent. `request` is its canonical JSON; the worst case is in tokens."""

    key: str
    model: str
    request: str
    step: str
    worst_input: int | None = None
    worst_output: int | None = None


@dataclass(frozen=True)
class Stored:
    """A committed response: the raw body as received, and the tokens it was billed for, where the server said so.

    They were billed at `price_factor` times the model's price.
    """

    body: bytes
    input_tokens: int | None
    output_tokens: int | None
    price_factor: float = 1.0


@dataclass(frozen=True)
class Lost:
    """An answer that may have been written and did not arrive: it may be billed, so the outcome stays unknown."""

    reason: str


Outcome = Stored | Lost | str  # of an attempt; a text says why it brought nothing


@dataclass
class TakenIn:
    """What became of answers from elsewhere: added, or already there, some of these with another body."""

    added: int = 0
    kept: int = 0
    differing: int = 0


class LedgerReader:
    """An open ledger that is only read. Use `Ledger.read` in a `with` block. All methods raise LedgerError."""

    def __init__(self, connection: sqlite3.Connection, path: Path):
        self._db = connection
        self.path = path

    @property
    def unknown_attempts(self) -> int:
        """Attempts whose outcome nobody knows, at this moment: those in flight among them."""
        return self._count("SELECT count(*) FROM attempts WHERE outcome IS NULL")

    def get(self, key: str) -> Stored | None:
        """The committed response to a call, whoever bought it and whenever."""
        query = "SELECT body, input_tokens, output_tokens, price_factor FROM responses WHERE key = ?"
        try:
            row = self._db.execute(query, (key,)).fetchone()
        except sqlite3.Error as error:
            raise _unreadable(self.path, error) from error
        return Stored(*row) if row else None

    def get_many(self, keys: Iterable[str]) -> dict[str, Stored]:
        """The committed responses to many calls at once, by key; a key without one is not there."""
        wanted = list(dict.fromkeys(keys))
        if len(wanted) <= BATCH:
            return dict(_stored(self._db, self.path, wanted))
        shares = [wanted[first::READERS] for first in range(READERS)]
        with ThreadPoolExecutor(READERS) as pool:
            return {key: stored for share in pool.map(self._share, shares) for key, stored in share}

    def _share(self, keys: Sequence[str]) -> list[tuple[str, Stored]]:
        with _reading(self.path), closing(_connect_to_read(self.path)) as connection:
            batches = (keys[first : first + BATCH] for first in range(0, len(keys), BATCH))
            return [pair for batch in batches for pair in _stored(connection, self.path, batch)]

    def rows(self, query: str, *values: Any) -> Iterator[tuple]:
        """The rows of a query, one at a time."""
        with _reading(self.path):
            yield from self._db.execute(query, values)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read in the block is of one moment, whatever a writer commits meanwhile."""
        with _reading(self.path):
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # an error of the disk ends it
                self._db.execute("ROLLBACK")

    def stats(self) -> dict[str, int]:
        """Counts of requests, attempts, committed responses (imported ones too) and attempts of unknown outcome."""
        return {
            "requests": self._count("SELECT count(*) FROM requests"),
            "attempts": self._count("SELECT count(*) FROM attempts"),
            "committed": self._count("SELECT count(*) FROM responses"),
            "failed": self._count("SELECT count(*) FROM attempts WHERE outcome = 'failed'"),
            "unknown": self._count("SELECT count(*) FROM attempts WHERE outcome IS NULL"),
        }

    def _count(self, query: str) -> int:
        return int(next(self.rows(query))[0])


class Ledger(LedgerReader):
    """An open ledger that is written. Use `Ledger.open` in a `with` block; it holds the writer's lock."""

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[Ledger]:
        """For writing: made where there is none, brought to this version where it is older. Raises LedgerError."""
        path = Path(path)
        with ExitStack() as stack:
            stack.enter_context(locked(f"{path}.lock", wait=has_siblings()))
            with _opening(path):
                connection = stack.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
                version_of(connection, path)  # a file that is no ledger is left as it is
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")  # a paid answer also survives a power cut
                migrate(connection, path)
                ledger = cls(connection, path)
            yield ledger

    @staticmethod
    @contextmanager
    def read(path: str | Path) -> Iterator[LedgerReader]:
        """Only for reading, beside whoever writes: no lock, no migration, and a file that is missing stays so.

        Raises LedgerError, also for a ledger of another version.
        """
        path = Path(path)
        require_file(path)
        with ExitStack() as stack:
            with _opening(path):
                connection = stack.enter_context(closing(_connect_to_read(path)))
                require_current(connection, path)
                reader = LedgerReader(connection, path)
            yield reader

    def begin(self, calls: Sequence[Call]) -> list[int]:
        """Write a row for each attempt, in one transaction; give their ids."""
        return self.write(calls, [])

    def finish(self, outcomes: Sequence[tuple[int, str, Outcome]]) -> None:
        """Commit what each attempt (id, key) brought."""
        self.write([], outcomes)

    def write(self, calls: Sequence[Call], outcomes: Sequence[tuple[int, str, Outcome]]) -> list[int]:
        """Begin some attempts and finish others, in one transaction."""
        if not calls and not outcomes:
            return []
        with self.transaction() as db:
            insert_outcomes(db, outcomes)
            return insert_attempts(db, calls)

    def take_in(self, answers: Iterable[tuple[Call, bytes]]) -> TakenIn:
        """Commit answers that were bought elsewhere, under attempts of outcome `imported` that were billed no tokens.

        In one transaction: an error that the iterable raises leaves the ledger as it was. What is there is kept.
        """
        taken = TakenIn()
        with self.transaction() as db:
            for call, body in answers:
                there = self.get(call.key)
                if there is None:
                    [attempt] = insert_attempts(db, [call])
                    _insert_responses(db, [(attempt, call.key, Stored(body, 0, 0))])
                    db.execute("UPDATE attempts SET outcome = 'imported', finished = started WHERE id = ?", (attempt,))
                    taken.added += 1
                else:
                    taken.kept += 1
                    taken.differing += there.body != body
        return taken

    def shrink(self) -> None:
        """Give the space of deleted rows back to the disk."""
        with self._writing():
            self._db.execute("VACUUM")

    @contextmanager
    def attached(self, path: Path) -> Iterator[None]:
        """Another ledger's tables stand beside this one's in the block, as `other`."""
        with self._writing():
            self._db.execute("ATTACH DATABASE ? AS other", (str(path),))
        try:
            yield
        finally:
            with self._writing():
                self._db.execute("DETACH DATABASE other")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written in the block is committed at its end, or nothing of it. Raises LedgerError."""
        with self._writing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                if self._db.in_transaction:  # SQLite has ended it by itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path} cannot be written ({error}). What was committed is safe; make room and run again"
            ) from error


class LedgerWithPast(Ledger):
    """A ledger that is written, with another that is only read: what that one answers is not asked again."""

    past: LedgerReader

    def get(self, key: str) -> Stored | None:
        return super().get(key) or self.past.get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Stored]:
        wanted = list(keys)
        found = super().get_many(wanted)
        return found | self.past.get_many(key for key in wanted if key not in found)


def insert_attempts(db: sqlite3.Connection, calls: Sequence[Call], batch: int | None = None) -> list[int]:
    """Their ids."""
    now = time.time()
    first = db.execute("SELECT coalesce(max(id), 0) + 1 FROM attempts").fetchone()[0]
    db.executemany(
        "INSERT OR IGNORE INTO requests (key, model, request) VALUES (?, ?, ?)",
        [(call.key, call.model, call.request) for call in calls],
    )
    db.executemany(
        "INSERT INTO attempts (id, key, step, started, worst_input, worst_output, batch) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(id_, c.key, c.step, now, c.worst_input, c.worst_output, batch) for id_, c in enumerate(calls, first)],
    )
    return list(range(first, first + len(calls)))


def insert_outcomes(db: sqlite3.Connection, outcomes: Sequence[tuple[int, str, Outcome]]) -> None:
    now = time.time()
    ends: list[tuple[str | None, str | None, float, int]] = []
    for attempt, _, outcome in outcomes:
        if isinstance(outcome, Stored):
            ends.append(("committed", None, now, attempt))
        elif isinstance(outcome, Lost):
            ends.append((None, outcome.reason, now, attempt))
        else:
            ends.append(("failed", outcome, now, attempt))
    _insert_responses(db, [(attempt, key, got) for attempt, key, got in outcomes if isinstance(got, Stored)])
    db.executemany("UPDATE attempts SET outcome = ?, detail = ?, finished = ? WHERE id = ?", ends)


def _insert_responses(db: sqlite3.Connection, answers: Sequence[tuple[int, str, Stored]]) -> None:
    db.executemany(
        "INSERT OR IGNORE INTO responses (key, attempt, input_tokens, output_tokens, price_factor, body) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        [(key, attempt, s.input_tokens, s.output_tokens, s.price_factor, s.body) for attempt, key, s in answers],
    )


def _stored(db: sqlite3.Connection, path: Path, keys: Sequence[str]) -> list[tuple[str, Stored]]:
    marks = ",".join("?" * len(keys))
    query = f"SELECT key, body, input_tokens, output_tokens, price_factor FROM responses WHERE key IN ({marks})"
    with _reading(path):
        return [(key, Stored(*columns)) for key, *columns in db.execute(query, keys)]


def _connect_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise LedgerError(
            f"{path} is not a ledger that can be opened ({error}). Check the path, and that you may write to its "
            "folder: who reads a ledger shares a file there with its writer"
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: sqlite3.Error) -> LedgerError:
    return LedgerError(f"{path} cannot be read ({error}). If it is damaged, go back to a copy of it")
