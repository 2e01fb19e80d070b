"""What is wrong in a ledger: the file, keys that are not their requests' hashes, rows that lack their other half.

Attempts of unknown outcome are no fault: a killed run leaves them, and a running one has them in flight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reward_distiller.teacher.endpoint import printable
from reward_distiller.teacher.ledger import LedgerReader, key_of_text

LISTED = 20  # rows named of each kind of fault; their number is given whole

_ANSWERED = "('committed', 'imported')"
# What is wrong -> the rows that it is wrong with.
_FAULTS = {
    "responses without an attempt that brought them": f"""
        SELECT r.key FROM responses r LEFT JOIN attempts a ON a.id = r.attempt AND a.key = r.key
        WHERE coalesce(a.outcome, '') NOT IN {_ANSWERED}
    """,
    "answered attempts whose response is not there, or another attempt's": f"""
        SELECT a.key || ' (attempt ' || a.id || ')' FROM attempts a
        LEFT JOIN responses r ON r.key = a.key AND r.attempt = a.id WHERE a.outcome IN {_ANSWERED} AND r.key IS NULL
    """,
    "attempts of an outcome that this package does not write": f"""
        SELECT key || ' (attempt ' || id || ')' FROM attempts WHERE outcome NOT IN {_ANSWERED} AND outcome <> 'failed'
    """,
    "attempts without a request": "SELECT DISTINCT key FROM attempts WHERE key NOT IN (SELECT key FROM requests)",
    "responses without a request": "SELECT key FROM responses WHERE key NOT IN (SELECT key FROM requests)",
    "requests without an attempt": "SELECT key FROM requests EXCEPT SELECT key FROM attempts",
}


@dataclass(frozen=True)
class Fault:
    """`rows` names the first LISTED of `count`."""

    problem: str
    count: int
    rows: list[str]

    def __str__(self) -> str:
        more = [f"... and {self.count - len(self.rows)} more"] if self.count > len(self.rows) else []
        return "\n  ".join([f"{self.count} {self.problem}:", *self.rows, *more])


def check(ledger: LedgerReader) -> list[Fault]:
    """All faults of one moment; none where the ledger is sound. Raises LedgerError where it cannot be read at all."""
    with ledger.snapshot():
        damage = (text for (text,) in ledger.rows(f"PRAGMA integrity_check({LISTED})") if text != "ok")
        found = _fault("places where the file is damaged", damage)
        if found.count:  # what is read from it would be of no use
            return [found]
        faults = [_fault("keys that are not the hash of their request", _wrong_keys(ledger))]
        faults += [_fault(problem, (row for (row,) in ledger.rows(query))) for problem, query in _FAULTS.items()]
    return [fault for fault in faults if fault.count]


def _wrong_keys(ledger: LedgerReader) -> Iterator[str]:
    for key, request in ledger.rows("SELECT key, request FROM requests"):
        if key_of_text(request) != key:
            yield key


def _fault(problem: str, rows: Iterator[str]) -> Fault:
    first: list[str] = []
    count = 0
    for row in rows:
        count += 1
        if len(first) < LISTED:
            first.append(printable(str(row)))
    return Fault(problem, count, first)
