"""The ledger's tables, and how a file of an older version becomes one of this version: in one transaction, or not.

Version 3 knows batches, and at what part of its price an answer was billed. Version 2 keeps the worst case of an
attempt, and rows in the order in which they came, which is about the order in which a run reads them again. Version 1
had whole rows inside the index of keys (WITHOUT ROWID): rows of 1 KB left it no room to branch and spilled over, at a
multiple of the space and of the time of a look-up.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from reward_distiller.console import say
from reward_distiller.errors import LedgerError
from reward_distiller.teacher.worst_case import worst_case

# Each entry brings a file from one version (its index) to the next; PRAGMA user_version holds the version.
MIGRATIONS = (
    (
        "requests, attempts and responses",
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
    ),
    (
        "the worst case of attempts; rows in the order in which they came",
        """
        ALTER TABLE attempts ADD COLUMN worst_input INTEGER;
        ALTER TABLE attempts ADD COLUMN worst_output INTEGER;
        UPDATE attempts SET worst_input = (SELECT worst_input(request) FROM requests WHERE key = attempts.key),
            worst_output = (SELECT worst_output(request) FROM requests WHERE key = attempts.key)
            WHERE outcome IS NULL;

        CREATE TABLE requests_in_order (
            key TEXT NOT NULL PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL
        );
        INSERT INTO requests_in_order SELECT key, model, request FROM requests
            LEFT JOIN (SELECT key, min(id) AS first FROM attempts GROUP BY key) USING (key) ORDER BY first;
        DROP TABLE requests;
        ALTER TABLE requests_in_order RENAME TO requests;

        CREATE TABLE responses_in_order (
            key TEXT NOT NULL PRIMARY KEY, attempt INTEGER NOT NULL,
            input_tokens INTEGER, output_tokens INTEGER, body BLOB NOT NULL
        );
        INSERT INTO responses_in_order SELECT key, attempt, input_tokens, output_tokens, body FROM responses
            ORDER BY attempt;
        DROP TABLE responses;
        ALTER TABLE responses_in_order RENAME TO responses;
        """,
    ),
    (
        "batches",
        """
        CREATE TABLE batches (
            id INTEGER PRIMARY KEY, mark TEXT NOT NULL UNIQUE, model TEXT NOT NULL, endpoint TEXT NOT NULL,
            price_factor REAL NOT NULL, started REAL NOT NULL, remote TEXT, status TEXT NOT NULL, ended REAL
        );
        ALTER TABLE attempts ADD COLUMN batch INTEGER;
        ALTER TABLE responses ADD COLUMN price_factor REAL NOT NULL DEFAULT 1.0;
        CREATE INDEX attempts_batch ON attempts (batch) WHERE batch IS NOT NULL;
        """,
    ),
)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """0 for a file that is still empty. Raises LedgerError for what is no ledger, or one of a newer version."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise LedgerError(f"{path} was written by a newer version of this package. Upgrade the package to read it")
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise LedgerError(f"{path} is an SQLite file of something else, not a ledger. Name another file")
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a ledger of an older version, or an empty file, to this version. Raises LedgerError."""
    version = version_of(connection, path)
    connection.create_function("worst_input", 1, lambda request: _worst(request)[0], deterministic=True)
    connection.create_function("worst_output", 1, lambda request: _worst(request)[1], deterministic=True)
    for number, (name, script) in enumerate(MIGRATIONS[version:], version + 1):
        if version:
            say(f"{path}: to version {number} of the ledger ({name})")
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
        except sqlite3.Error as error:
            raise LedgerError(
                f"{path} cannot be brought to version {number} ({error}) and stays as it was. Where the disk is full, "
                "make room for three times its size and run again"
            ) from error


def require_current(connection: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerError unless the file is a ledger of this version: who only reads brings nothing up to date."""
    version = version_of(connection, path)
    if version == 0:
        raise LedgerError(f"{path} is empty, not a ledger. Check the path")
    if version < VERSION:
        raise LedgerError(
            f"{path} is a ledger of version {version}; this package reads version {VERSION}. "
            f"Bring it up to date: reward-distiller ledger upgrade {path}"
        )


def _worst(request: str | None) -> tuple[int | None, int | None]:
    try:
        return worst_case(json.loads(request or "{}"))
    except (
        ValueError,
        AttributeError,
        RecursionError,
    ):  # no request that this package wrote: its worst case is unknown
        return None, None
