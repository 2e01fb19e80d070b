"""The ledger: one SQLite file in which every call to a teacher or candidate model is a row.

Write-ahead: an attempt's row is committed before its request is sent, and the raw response before
anything reads it. So a committed response is never bought again, and an attempt without an outcome is
one whose process died while it was in flight: it may or may not have been paid for, and is shown as
such. One process writes; others may read. Knows nothing of HTTP or of what answers mean.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reward_distiller.errors import LedgerError
from reward_distiller.files import locked
from reward_distiller.processes import has_siblings
from reward_distiller.records import canonical_json

# Each entry brings a file from one version (its index) to the next; PRAGMA user_version holds the version.
MIGRATIONS = (
    """
    CREATE TABLE requests (key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE attempts (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, step TEXT NOT NULL, started REAL NOT NULL,
        outcome TEXT, detail TEXT, finished REAL
    );
    CREATE TABLE responses (
        key TEXT PRIMARY KEY, attempt INTEGER NOT NULL, body BLOB NOT NULL,
        input_tokens INTEGER, output_tokens INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX attempts_open ON attempts (outcome) WHERE outcome IS NULL;
    """,
)


def request_key(request: dict) -> str:
    """The content address of a call: its hash algorithm and the hash of what is asked (sample index included)."""
    return "sha256:" + hashlib.sha256(canonical_json(request).encode()).hexdigest()


@dataclass(frozen=True)
class Stored:
    """A committed response: the raw body as received, and the tokens it was billed for, where the server said so."""

    body: bytes
    input_tokens: int | None
    output_tokens: int | None


class Ledger:
    """An open ledger. Use `Ledger.open` in a `with` block; it holds the writer's lock."""

    def __init__(self, connection: sqlite3.Connection, path: Path):
        self._db = connection
        self.path = path
        self.unknown_attempts = self._count("SELECT count(*) FROM attempts WHERE outcome IS NULL")

    @classmethod
    @contextmanager
    def open(cls, path: str | Path) -> Iterator[Ledger]:
        path = Path(path)
        with ExitStack() as stack:
            stack.enter_context(locked(f"{path}.lock", wait=has_siblings()))
            try:
                connection = sqlite3.connect(path, isolation_level=None)
                stack.callback(connection.close)
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")  # a paid answer also survives a power cut
                _migrate(connection, path)
                ledger = cls(connection, path)
            except sqlite3.DatabaseError as error:
                raise LedgerError(f"{path} is not a ledger that can be opened ({error})") from error
            yield ledger

    def get(self, key: str) -> Stored | None:
        row = self._db.execute(
            "SELECT body, input_tokens, output_tokens FROM responses WHERE key = ?", (key,)
        ).fetchone()
        return Stored(*row) if row else None

    def begin(self, calls: Sequence[tuple[str, str, str, str]]) -> list[int]:
        """Write attempt rows for (key, model, request as JSON, step), in one transaction; give their ids."""
        with self._transaction():
            ids = []
            for key, model, request, step in calls:
                self._db.execute("INSERT OR IGNORE INTO requests VALUES (?, ?, ?)", (key, model, request))
                cursor = self._db.execute(
                    "INSERT INTO attempts (key, step, started) VALUES (?, ?, ?)", (key, step, time.time())
                )
                ids.append(int(cursor.lastrowid or 0))
        return ids

    def finish(self, outcomes: Sequence[tuple[int, str, Stored | str]]) -> None:
        """Commit (attempt, key, response) or, for one that brought none, (attempt, key, reason)."""
        if not outcomes:
            return
        now = time.time()
        with self._transaction():
            for attempt, key, outcome in outcomes:
                if isinstance(outcome, Stored):
                    self._db.execute(
                        "INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?)",
                        (key, attempt, outcome.body, outcome.input_tokens, outcome.output_tokens),
                    )
                    result: tuple[str, str | None] = ("committed", None)
                else:
                    result = ("failed", outcome)
                self._db.execute(
                    "UPDATE attempts SET outcome = ?, detail = ?, finished = ? WHERE id = ?", (*result, now, attempt)
                )

    def stats(self) -> dict[str, int]:
        """Counts of requests, attempts, committed responses and attempts of unknown outcome."""
        return {
            "requests": self._count("SELECT count(*) FROM requests"),
            "attempts": self._count("SELECT count(*) FROM attempts"),
            "committed": self._count("SELECT count(*) FROM responses"),
            "failed": self._count("SELECT count(*) FROM attempts WHERE outcome = 'failed'"),
            "unknown": self._count("SELECT count(*) FROM attempts WHERE outcome IS NULL"),
        }

    def _count(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(
                f"{self.path} cannot be written ({error}). What was committed is safe; make room and run again"
            ) from error


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise LedgerError(f"{path} was written by a newer version of this package. Upgrade to read it")
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")
