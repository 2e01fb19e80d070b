"""Caps on what calls cost, kept whatever the order in which calls are sent and end.

Before a call is sent, the worst that it can cost is reserved; when it has ended, what it did cost takes that place.
So what is spent and what may yet be stay within the caps together, if no call costs more than was reserved for it. No
I/O and no clock. Knows nothing of how a worst case is found, or of what a call is.

For each call: `reservation = reserve(worst)`, send, and `settle(reservation, actual)` exactly once: `NOTHING` where
the server took nothing for it (HTTP 429), None where nobody knows (a time-out). Where `reserve` gives None, wait until
another call is settled and ask again. What it raises ends the run, once the calls in flight are settled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from reward_distiller.config import ChatModel
from reward_distiller.errors import BudgetReached, ConfigError
from reward_distiller.teacher.cost import NOTHING, Cost


@dataclass(frozen=True)
class Reservation:
    number: int
    worst: Cost


class Budget:
    """Caps in money (of the prices' currency), tokens (read and written) and calls; None is no cap.

    `spent` is what was spent before: of a ledger, what its answers cost, with every attempt whose outcome is not known
    at its worst case. Raises ConfigError where money is capped and what it takes cannot be known.
    """

    def __init__(
        self,
        models: Iterable[ChatModel],
        *,
        money: float | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        spent: Cost = NOTHING,
    ):
        given = {"money": None if money is None else Decimal(str(money)), "tokens": tokens, "calls": calls}
        self._caps = {name: cap for name, cap in given.items() if cap is not None}
        if money is not None:
            for model in models:
                if model.price is None:
                    raise ConfigError(
                        f"model {model.model!r}: a cap on money cannot be kept without its price. Set `price`, or cap "
                        "tokens or calls instead"
                    )
            if spent.money is None:
                raise ConfigError(
                    "a cap on money cannot be kept: the ledger holds calls of a model whose price is not known. Set "
                    "its `price`, use another ledger, or cap tokens or calls instead"
                )
        self.spent = spent
        self.reserved = NOTHING
        self._open: set[int] = set()
        self._made = 0

    def reserve(self, worst: Cost) -> Reservation | None:
        """Set the cost aside if it fits beside all that is spent and reserved; None if it may when others have ended.

        Raises BudgetReached where it no longer can: it does not fit beside what is spent alone.
        """
        for name, cap in self._caps.items():
            if _amount(self.spent + worst, name) > cap:
                raise BudgetReached(name, cap, spent=_amount(self.spent, name), needed=_amount(worst, name))
        if any(_amount(self.spent + self.reserved + worst, name) > cap for name, cap in self._caps.items()):
            return None
        self.reserved += worst
        self._made += 1
        self._open.add(self._made)
        return Reservation(self._made, worst)

    def settle(self, reservation: Reservation, actual: Cost | None) -> None:
        """Put what a call did cost in the place of what it could; None where nobody knows, which is the worst."""
        self._open.remove(reservation.number)
        self.reserved += -reservation.worst
        self.spent += reservation.worst if actual is None else actual

    def correct(self, counted: Cost, actual: Cost) -> None:
        """What was spent before turns out to be another amount than it was counted at: an answer came after all."""
        self.spent += actual
        self.spent += -counted


def _amount(cost: Cost, cap: str) -> Decimal | int:
    amount: Decimal | int | None = getattr(cost, cap)
    if amount is None:
        raise ValueError("a cost whose money is not known, in a budget that caps money")
    return amount
