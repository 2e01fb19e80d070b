"""What calls to a chat model cost: tokens, calls and money, and their sums.

Money is decimal, so that 0.1 is what a price list calls 0.1 and a sum of a million calls is exact; None where a price
is not known, and then of every sum that it is part of. Knows no caps.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from reward_distiller.config import Price


@dataclass(frozen=True)
class Cost:
    """Of one call or of many."""

    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    money: Decimal | None = Decimal(0)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.calls + other.calls,
            None if self.money is None or other.money is None else self.money + other.money,
        )

    def __neg__(self) -> Cost:
        return Cost(-self.input_tokens, -self.output_tokens, -self.calls, None if self.money is None else -self.money)


NOTHING = Cost()


def money_of(price: Price | None, input_tokens: float, output_tokens: float) -> Decimal | None:
    """What so many tokens cost; `price` is per million. Tokens at a part of the price count as that part of a token."""
    if price is None:
        return None
    read, written = Decimal(str(input_tokens)), Decimal(str(output_tokens))
    return (read * Decimal(str(price.input)) + written * Decimal(str(price.output))) / 1_000_000


def cost_of_call(price: Price | None, input_tokens: int, output_tokens: int, factor: float = 1.0) -> Cost:
    """What one call costs that reads and writes so many tokens, at `factor` times the price."""
    money = money_of(price, input_tokens * factor, output_tokens * factor)
    return Cost(input_tokens, output_tokens, 1, money)
