"""Other ledgers into one, by key: what several machines bought becomes what one run knows.

Attempts come with what they took, so the sum of the parts is what was spent in all. An attempt is known again by its
call and the moment when it began: merging a file twice adds nothing, and what was in flight then is brought up to date.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reward_distiller.errors import LedgerError
from reward_distiller.teacher.ledger import Ledger

TWICE = "answered too, in a ledger that was merged; that answer is not kept"  # paid for, so its worst case counts

# `came` joins each of their attempts with ours: one that is there, or the number that a new one gets.
_MERGE = """
    INSERT OR IGNORE INTO requests (key, model, request)
        SELECT q.key, q.model, q.request FROM other.requests q ORDER BY q.rowid;
    INSERT OR IGNORE INTO batches (mark, model, endpoint, price_factor, started, remote, status, ended)
        SELECT mark, model, endpoint, price_factor, started, remote, status, ended FROM other.batches ORDER BY id;
    UPDATE batches SET (remote, status, ended) = (
            SELECT b.remote, b.status, b.ended FROM other.batches b WHERE b.mark = batches.mark
        ) WHERE ended IS NULL AND mark IN (SELECT mark FROM other.batches);

    CREATE TEMP TABLE came (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL, new INTEGER NOT NULL);
    INSERT INTO came SELECT a.id, m.id, 0 FROM other.attempts a
        JOIN main.attempts m ON m.key = a.key AND m.started = a.started AND m.step = a.step;
    INSERT INTO came
        SELECT a.id, (SELECT coalesce(max(id), 0) FROM main.attempts) + row_number() OVER (ORDER BY a.id), 1
        FROM other.attempts a WHERE a.id NOT IN (SELECT theirs FROM came);

    CREATE TEMP TABLE twice AS SELECT c.ours FROM came c JOIN other.responses r ON r.attempt = c.theirs
        JOIN main.responses m ON m.key = r.key WHERE m.attempt <> c.ours;
    INSERT INTO attempts (id, key, step, started, outcome, detail, finished, worst_input, worst_output, batch)
        SELECT c.ours, a.key, a.step, a.started, a.outcome, a.detail, a.finished, a.worst_input, a.worst_output,
            (SELECT b.id FROM main.batches b JOIN other.batches t ON t.mark = b.mark WHERE t.id = a.batch)
        FROM came c JOIN other.attempts a ON a.id = c.theirs WHERE c.new ORDER BY c.ours;
    UPDATE attempts SET (outcome, detail, finished) = (
            SELECT a.outcome, a.detail, a.finished FROM came c JOIN other.attempts a ON a.id = c.theirs
            WHERE c.ours = attempts.id
        ) WHERE outcome IS NULL AND finished IS NULL AND id IN (SELECT ours FROM came WHERE NOT new);
    INSERT OR IGNORE INTO responses (key, attempt, input_tokens, output_tokens, body, price_factor)
        SELECT r.key, c.ours, r.input_tokens, r.output_tokens, r.body, r.price_factor
        FROM came c JOIN other.attempts a ON a.id = c.theirs JOIN other.responses r ON r.key = a.key
        WHERE r.attempt = a.id ORDER BY c.ours;
    UPDATE attempts SET outcome = CASE outcome WHEN 'committed' THEN NULL ELSE 'failed' END, detail = :twice
        WHERE outcome IN ('committed', 'imported') AND id IN (SELECT ours FROM twice);
"""
_DIFFERING = """
    SELECT count(*) FROM other.responses r JOIN main.responses m ON m.key = r.key WHERE m.body <> r.body
"""


@dataclass(frozen=True)
class Merged:
    """Attempts and answers that came in, and answers that were there already with another body, which stay."""

    attempts: int
    answers: int
    differing: int


def merge(ledger: Ledger, other: str | Path) -> Merged:
    """Take all of another ledger in, in one transaction. Raises LedgerError for a file that cannot be merged."""
    other = Path(other)
    with Ledger.read(other):  # there, a ledger, of this version
        pass
    if other.samefile(ledger.path):
        raise LedgerError(f"{other} is the ledger itself. Name the others")
    with ledger.attached(other):
        before = ledger.stats()
        with ledger.transaction() as db:
            for statement in _MERGE.split(";\n"):
                db.execute(statement, {"twice": TWICE} if ":twice" in statement else {})
            [[differing]] = db.execute(_DIFFERING)
            db.execute("DROP TABLE came")
            db.execute("DROP TABLE twice")
        after = ledger.stats()
    return Merged(after["attempts"] - before["attempts"], after["committed"] - before["committed"], differing)
