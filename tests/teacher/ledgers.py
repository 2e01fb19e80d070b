"""Ledgers for tests: one with a call of every outcome, one of version 1; and the commands that read them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from helpers import fake
from typer.testing import CliRunner

from reward_distiller.cli.ledger import app
from reward_distiller.errors import RewardDistillerError
from reward_distiller.records import canonical_json
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.ledger import Call, Ledger, Stored, request_key
from reward_distiller.testbed.models import completion_body

VERSION_1 = """
    PRAGMA journal_mode=WAL;
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
    PRAGMA user_version = 1;
"""
REQUESTS = [build_request(fake(), [{"role": "user", "content": f"question {n} ☃"}], 0) for n in range(20)]


def version_1(path, damaged: str = "") -> None:
    """Answered, refused and lost calls, in an order that is not that of their keys."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(VERSION_1)
        for number, request in enumerate(REQUESTS, 1):
            key = request_key(request)
            db.execute("INSERT INTO requests VALUES (?, ?, ?)", (key, "teacher", canonical_json(request)))
            outcome = ("committed", "failed", None)[number % 3]
            detail = "HTTP 400" if outcome == "failed" else None
            row = (number, key, "s", float(number), outcome, detail, None if outcome is None else number + 0.5)
            db.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if outcome == "committed":
                body = completion_body("teacher", f"answer {number}", 1, "x") if number % 2 else b"\xff\0 no text"
                usage = (3, 4) if number % 2 else (None, None)
                db.execute("INSERT INTO responses VALUES (?, ?, ?, ?, ?)", (key, number, body, *usage))
        db.execute("INSERT INTO requests VALUES ('no json', 'teacher', '{')")
        db.execute("INSERT INTO attempts VALUES (99, 'no json', 's', 1.0, NULL, NULL, NULL)")
        db.execute("INSERT INTO attempts VALUES (98, 'no request', 's', 1.0, NULL, NULL, NULL)")
        db.executescript(damaged)


def run(*arguments) -> str:
    """The output of a command that must succeed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, RewardDistillerError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def call(text: str, model: str = "teacher", step: str = "score", worst=(1000, 200)) -> Call:
    request = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 200, "sample": 0}
    return Call(request_key(request), model, canonical_json(request), step, *worst)


def fill(path, *calls: tuple[Call, Stored | str | None]) -> None:
    with Ledger.open(path) as ledger:
        ids = ledger.begin([one for one, _ in calls])
        ledger.finish([(id_, one.key, out) for id_, (one, out) in zip(ids, calls, strict=True) if out is not None])


def filled(folder: Path) -> Path:
    """Three answers, one after a refusal, and two calls of unknown outcome, one without a known worst case."""
    path = folder / "ledger.sqlite"
    fill(
        path,
        (call("a"), Stored(b"answer a", 1_000_000, 100_000)),
        (call("b"), "HTTP 500: busy"),
        (call("b"), Stored(b"answer b", 500_000, 0)),
        (call("c", step="refine"), Stored(b"\xff\xfe", None, None)),
        (call("d"), None),
        (call("e", model="small", step="draw", worst=(None, 200)), None),
    )
    return path


def execute(path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def counts(path) -> tuple[int, int, int]:
    with closing(sqlite3.connect(path)) as db:
        return tuple(
            db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("requests", "attempts", "responses")
        )
