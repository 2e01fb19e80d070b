"""Batches in the ledger: which attempts were handed to a server together, under which name, and whether they are back.

A batch has its row, with a mark of ours, before it is created at the server, so that whoever comes after a kill can
find it there by the mark. It is open until its results are taken in, in one transaction. Knows no HTTP.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reward_distiller.teacher.ledger import BATCH, Call, Ledger, LedgerReader, Outcome, insert_attempts, insert_outcomes

SUBMITTING = "submitting"  # the server's name for it is not known: it may have been created or not
NOT_CREATED = "not created"  # its attempts cost nothing
NOT_FOUND = "not found"  # the server knows no batch of that mark; its attempts stay of unknown outcome


@dataclass(frozen=True)
class Batch:
    """`remote` is the server's id. `calls` were sent in it; `waiting` of them have no outcome yet."""

    id: int
    mark: str
    model: str
    endpoint: str
    price_factor: float
    started: float
    remote: str | None
    status: str
    ended: float | None
    calls: int
    waiting: int


class Waiting(NamedTuple):
    """An attempt whose answer has not come, and its worst case in tokens."""

    id: int
    input: int | None
    output: int | None


_BATCHES = """
    SELECT b.id, b.mark, b.model, b.endpoint, b.price_factor, b.started, b.remote, b.status, b.ended,
        (SELECT count(*) FROM attempts a WHERE a.batch = b.id),
        (SELECT count(*) FROM attempts a WHERE a.batch = b.id AND a.outcome IS NULL AND a.finished IS NULL)
    FROM batches b
"""


def batches(ledger: LedgerReader) -> list[Batch]:
    """All, in the order in which they were made."""
    return [Batch(*row) for row in ledger.rows(f"{_BATCHES} ORDER BY b.id")]


def open_batches(ledger: LedgerReader, model: str, endpoint: str) -> list[Batch]:
    """Those of a model at an endpoint whose results are not taken in."""
    query = f"{_BATCHES} WHERE b.ended IS NULL AND b.model = ? AND b.endpoint = ? ORDER BY b.id"
    return [Batch(*row) for row in ledger.rows(query, model, endpoint)]


def waiting_in(ledger: LedgerReader, batch: Batch) -> dict[str, Waiting]:
    """The attempts of a batch that have no outcome yet, by key."""
    query = """
        SELECT key, id, worst_input, worst_output FROM attempts
        WHERE batch = ? AND outcome IS NULL AND finished IS NULL
    """
    return {key: Waiting(*row) for key, *row in ledger.rows(query, batch.id)}


def begin(ledger: Ledger, model: str, endpoint: str, price_factor: float, calls: Sequence[Call]) -> Batch:
    """Write the rows of a batch and of its attempts, before anything is sent."""
    mark = uuid.uuid4().hex
    with ledger.transaction() as db:
        cursor = db.execute(
            "INSERT INTO batches (mark, model, endpoint, price_factor, started, status) VALUES (?, ?, ?, ?, ?, ?)",
            (mark, model, endpoint, price_factor, time.time(), SUBMITTING),
        )
        insert_attempts(db, calls, cursor.lastrowid)
    return next(Batch(*row) for row in ledger.rows(f"{_BATCHES} WHERE b.mark = ?", mark))


def note(ledger: Ledger, batch: Batch, remote: str, status: str) -> None:
    """What the server calls it, and how it stands there."""
    with ledger.transaction() as db:
        db.execute("UPDATE batches SET remote = ?, status = ? WHERE id = ?", (remote, status, batch.id))


def end(ledger: Ledger, batch: Batch, status: str, outcomes: Sequence[tuple[int, str, Outcome]]) -> None:
    """Take in what a batch brought, attempt by attempt (id, key); it is open no more."""
    with ledger.transaction() as db:
        for start in range(0, len(outcomes), BATCH):
            insert_outcomes(db, outcomes[start : start + BATCH])
        db.execute("UPDATE batches SET status = ?, ended = ? WHERE id = ?", (status, time.time(), batch.id))
