"""What is deleted from a ledger: attempts, the responses that they brought, and requests that are left with none.

What an attempt took is forgotten with it, and an answer that is deleted is bought again when it is asked for again.
Attempts of unknown outcome are evidence of money that may have been spent: they go only where they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from reward_distiller.errors import ConfigError
from reward_distiller.teacher.ledger import Ledger, LedgerReader
from reward_distiller.teacher.ledger_report import text_table

_FROM = "FROM attempts a LEFT JOIN requests q ON q.key = a.key"


@dataclass(frozen=True)
class Choice:
    """Which attempts: of a model, in a step, of these outcomes. None stands for any, but never for unknown outcomes."""

    model: str | None = None
    step: str | None = None
    failed: bool = False
    unknown: bool = False

    def where(self) -> tuple[str, list[str]]:
        """As a condition on `attempts a` with their `requests q`, and its values. Raises ConfigError for everything."""
        outcomes = [
            condition
            for condition, wanted in (("a.outcome = 'failed'", self.failed), ("a.outcome IS NULL", self.unknown))
            if wanted
        ]
        filters = [
            (name, value) for name, value in (("q.model", self.model), ("a.step", self.step)) if value is not None
        ]
        if not outcomes and not filters:
            raise ConfigError(
                "this would delete all that was paid for. Name a --model or --step, --failed or --unknown"
            )
        conditions = [f"({' OR '.join(outcomes) or 'a.outcome IS NOT NULL'})", *(f"{name} = ?" for name, _ in filters)]
        return " AND ".join(conditions), [value for _, value in filters]


def would_delete(ledger: LedgerReader, choice: Choice) -> tuple[int, str]:
    """How many attempts a choice takes, and a table of them by model, step and outcome."""
    condition, values = choice.where()
    query = f"""
        SELECT coalesce(q.model, '(no request)'), a.step, coalesce(a.outcome, 'unknown'), count(*) {_FROM}
        WHERE {condition} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    """
    found = list(ledger.rows(query, *values))
    table = [["model", "step", "attempts", "outcome"], *([model, step, str(n), how] for model, step, how, n in found)]
    return sum(n for *_, n in found), text_table(table)


def prune(ledger: Ledger, choice: Choice) -> None:
    """Delete what a choice takes, in one transaction, then give the space back. Raises ConfigError and LedgerError."""
    condition, values = choice.where()
    with ledger.transaction() as db:
        db.execute(f"CREATE TEMP TABLE gone AS SELECT a.id, a.key {_FROM} WHERE {condition}", values)
        db.execute("DELETE FROM responses WHERE key IN (SELECT key FROM gone) AND attempt IN (SELECT id FROM gone)")
        db.execute("DELETE FROM attempts WHERE id IN (SELECT id FROM gone)")
        db.execute("DELETE FROM requests WHERE key IN (SELECT key FROM gone EXCEPT SELECT key FROM attempts)")
        db.execute("DROP TABLE gone")
    ledger.shrink()
