"""What a ledger's calls have cost so far, and the budget that goes on from there. Knows no calls to come."""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.config import Caps, ChatModel, Price
from reward_distiller.teacher.budget import Budget
from reward_distiller.teacher.cost import NOTHING, Cost
from reward_distiller.teacher.ledger import LedgerReader
from reward_distiller.teacher.ledger_report import Line, Prices, prices_of, report


def budget_of(ledger: LedgerReader, caps: Caps, models: Sequence[ChatModel]) -> Budget:
    """A budget that what the ledger holds is taken off. Raises ConfigError where a cap cannot be kept.

    Without caps the ledger is not read.
    """
    if caps == Caps():
        return Budget([])
    return Budget(
        models, money=caps.money, tokens=caps.tokens, calls=caps.calls, spent=spent(ledger, prices_of(models))
    )


def spent(ledger: LedgerReader, prices: Prices) -> Cost:
    """All answers at what they were billed for, and at their worst case all attempts that nobody knows it of."""
    total = NOTHING
    for line in report(ledger).lines[:-1]:
        total += _cost(line, prices.get(line.model))
    return total


def _cost(line: Line, price: Price | None) -> Cost:
    known, worst = line.money(price), line.worst_money(price)
    return Cost(
        line.input_tokens + line.worst_input,
        line.output_tokens + line.worst_output,
        line.committed + line.unknown,
        None if known is None or worst is None else known + worst,
    )
