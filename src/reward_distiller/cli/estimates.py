"""A run's estimate: calls, tokens and money of each step, low and high; as a table with their sums, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from reward_distiller.construct.estimate import StepEstimate
from reward_distiller.teacher.cost import NOTHING, Cost
from reward_distiller.teacher.ledger_report import text_table


def estimate_table(rows: Sequence[StepEstimate]) -> str:
    """What is in the ledger is taken off; money that no price tells is `unknown`."""
    titles = ["step", "model", "calls at most", "in the ledger", "tokens read", "tokens written", "money"]
    low, high = sum((row.low for row in rows), NOTHING), sum((row.high for row in rows), NOTHING)
    calls, bought = sum(row.calls for row in rows), sum(row.bought or 0 for row in rows)
    lines = []
    for row in rows:
        there = "not known yet" if row.bought is None else f"{row.bought:,}"
        lines.append([row.step, row.model, f"{row.calls:,}", there, *_amounts(row.low, row.high)])
    total = ["total", "", f"{calls:,}", f"{bought:,}", *_amounts(low, high)]
    return text_table([titles, *lines, total]) + (
        "\nlow to high, of what is not in the ledger; an unusable answer is asked for again, which comes on top"
    )


def estimates_json(rows: Sequence[StepEstimate]) -> list[dict[str, Any]]:
    """A row for each step, for scripts; money is None where no price tells it."""

    def amounts(cost: Cost) -> dict[str, Any]:
        money = None if cost.money is None else float(cost.money)
        return {"input_tokens": cost.input_tokens, "output_tokens": cost.output_tokens, "money": money}

    return [
        {"step": row.step, "model": row.model, "calls": row.calls, "in_ledger": row.bought}
        | {"low": amounts(row.low), "high": amounts(row.high)}
        for row in rows
    ]


def _amounts(low: Cost, high: Cost) -> list[str]:
    def both(amount: Callable[[Cost], Decimal | int | None], form: str) -> str:
        least, most = amount(low), amount(high)
        return "unknown" if least is None or most is None else f"{least:{form}} to {most:{form}}"

    return [
        both(lambda cost: cost.input_tokens, ","),
        both(lambda cost: cost.output_tokens, ","),
        both(lambda cost: cost.money, ",.2f"),
    ]
