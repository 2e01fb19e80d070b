"""Figures and texts as the page writes them. Knows no markup: what is shown is escaped elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from reward_distiller.recipes.comparison_table import short
from reward_distiller.recipes.evaluation_table import interval

UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
Figure = Mapping[str, Any]  # value, low and high, as results.json holds them


def shown(text: str) -> str:
    """What cannot be shown as the sign for that: control characters, halves of characters, marks that turn text around.

    A name of someone else's must not reverse our sentence about it.
    """
    return UNSHOWN.sub("\ufffd", text)


def name(text: str) -> str:
    """A field's name for people."""
    return text.replace("_", " ")


def percent(figure: Figure | None) -> str:
    return interval(figure, 1)  # type: ignore[arg-type]


def points(figure: Figure) -> str:
    """A difference with its interval, the sign always there."""
    return f"{figure['value']:+.1f} [{figure['low']:+.1f}, {figure['high']:+.1f}]"


def between(figure: Figure, decimals: int = 1) -> str:
    """The interval in words."""
    return f"95% interval {figure['low']:.{decimals}f} to {figure['high']:.{decimals}f}"


def ahead(figure: Figure, of: str) -> str:
    """What a paired difference of accuracies allows to say."""
    if figure["low"] > 0:
        return f"ahead of {of} ({points(figure)} points)"
    if figure["high"] < 0:
        return f"behind {of} ({points(figure)} points)"
    return f"not told apart from {of} ({points(figure)} points)"


def spent(cost: Sequence[Mapping[str, Any]]) -> str:
    """What calls came to, in one line."""
    if not cost:
        return "no calls"
    calls = sum(row["calls"] for row in cost)
    tokens = sum(row["input_tokens"] + row["output_tokens"] for row in cost)
    least = "at least " if any(row.get("without_usage") for row in cost) else ""
    return f"{calls:,} answers, {least}{short(tokens)} tokens, {money([row['money'] for row in cost])}"


def money(amounts: Sequence[float | None]) -> str:
    known = [amount for amount in amounts if amount is not None]
    if len(known) < len(amounts):
        return "price unknown"
    return f"price {sum(known):,.4g}"


def count(number: float) -> str:
    return f"{number:,.0f}"
