"""Caps on what calls cost: what fits, what must wait, what can no longer be, in any order of events."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reward_distiller.config import ChatModel, Price
from reward_distiller.errors import BudgetReached, ConfigError
from reward_distiller.teacher.budget import Budget, Reservation
from reward_distiller.teacher.cost import NOTHING, Cost, cost_of_call

PRICE = Price(input=0.15, output=0.6)
PRICED = ChatModel(model="priced", price=PRICE)
FREE = ChatModel(model="local")


def call(input_tokens: int, output_tokens: int) -> Cost:
    return cost_of_call(PRICE, input_tokens, output_tokens)


def reserve(budget: Budget, worst: Cost) -> Reservation:
    reservation = budget.reserve(worst)
    assert reservation is not None
    return reservation


def test_a_cost_is_what_the_price_list_says_to_the_last_digit():
    assert call(1_000_000, 500_000) == Cost(1_000_000, 500_000, 1, Decimal("0.45"))
    assert sum([call(1, 1)] * 100_000, NOTHING) == Cost(100_000, 100_000, 100_000, Decimal("0.075"))
    assert cost_of_call(Price(input=1e-7, output=0), 3, 9).money == Decimal("3e-13")


def test_what_is_not_known_of_a_part_is_not_known_of_the_sum():
    unknown = cost_of_call(None, 3, 4)
    assert unknown == Cost(3, 4, 1, None)
    assert (unknown + call(1, 1)).money is None
    assert (call(1, 1) + unknown).money is None
    assert (call(1, 1) + unknown).tokens == 9


@given(st.lists(st.builds(call, st.integers(0, 10**9), st.integers(0, 10**9)), max_size=20))
def test_costs_add_up_and_take_away_exactly(costs):
    total = sum(costs, NOTHING)
    assert total.calls == len(costs)
    for cost in costs:
        total += -cost
    assert total == NOTHING


def test_without_caps_everything_fits():
    budget = Budget([FREE])
    for _ in range(100):
        budget.settle(reserve(budget, cost_of_call(None, 10**9, 10**9)), None)
    assert budget.spent == Cost(10**11, 10**11, 100, None)


def test_a_worst_case_that_does_not_fit_beside_others_waits_for_them():
    budget = Budget([FREE], tokens=100)
    first, second = reserve(budget, Cost(40, 10, 1)), reserve(budget, Cost(40, 10, 1))
    assert budget.reserve(Cost(1, 0, 1)) is None
    budget.settle(first, Cost(40, 2, 1))
    assert budget.reserve(Cost(5, 4, 1)) is None
    third = reserve(budget, Cost(4, 4, 1))
    budget.settle(second, None)
    budget.settle(third, NOTHING)
    assert budget.spent == Cost(80, 12, 2)
    assert budget.reserved == NOTHING
    reserve(budget, Cost(8, 0, 1))


def test_the_last_token_call_and_cent_may_be_spent():
    budget = Budget([PRICED], money=0.3, tokens=10, calls=3)
    for n in range(3):
        budget.settle(reserve(budget, Cost(n, 3 - n, 1, Decimal("0.1"))), None)
    assert budget.spent == Cost(3, 6, 3, Decimal("0.3"))
    with pytest.raises(BudgetReached, match="calls"):
        budget.reserve(Cost(1, 0, 1, Decimal(0)))


@pytest.mark.parametrize(
    ("caps", "message"),
    [
        ({"money": 5.0}, "the budget's cap on money is reached: 4.98 of 5 spent, and the next call could cost 0.03."),
        (
            {"tokens": 1000},
            "the budget's cap on tokens is reached: 990 of 1000 spent, and the next call could cost 11.",
        ),
        ({"calls": 20}, "the budget's cap on calls is reached: 20 of 20 spent, and the next call could cost 1."),
    ],
)
def test_the_end_names_the_cap_what_is_spent_what_would_come_and_the_mend(caps, message):
    budget = Budget([PRICED], **caps, spent=Cost(900, 90, 20, Decimal("4.98")))
    with pytest.raises(BudgetReached) as caught:
        budget.reserve(Cost(6, 5, 1, Decimal("0.03")))
    assert str(caught.value).startswith(message)
    assert "Raise the cap and run again" in str(caught.value)
    assert caught.value.exit_code == 12


def test_amounts_are_written_as_people_write_them():
    budget = Budget([PRICED], money=1e-7)
    with pytest.raises(BudgetReached, match=r"0 of 0\.0000001 spent, and the next call could cost 0\.0000006"):
        budget.reserve(call(0, 1))


def test_a_cap_that_the_ledger_has_used_up_stops_new_calls_only():
    budget = Budget([PRICED], calls=10, spent=Cost(calls=12))
    assert budget.spent.calls == 12
    with pytest.raises(BudgetReached, match="12 of 10"):
        budget.reserve(call(1, 1))
    with pytest.raises(BudgetReached):
        Budget([PRICED], calls=0).reserve(call(1, 1))


def test_it_ends_only_when_no_other_call_can_make_room():
    budget = Budget([FREE], calls=2)
    a, b = reserve(budget, Cost(calls=1)), reserve(budget, Cost(calls=1))
    assert budget.reserve(Cost(calls=1)) is None
    budget.settle(a, NOTHING)  # the server took nothing for it
    c = reserve(budget, Cost(calls=1))
    budget.settle(b, None)
    assert budget.reserve(Cost(calls=1)) is None
    budget.settle(c, None)
    with pytest.raises(BudgetReached):
        budget.reserve(Cost(calls=1))


def test_a_reservation_is_settled_once():
    budget = Budget([FREE], calls=5)
    reservation = reserve(budget, Cost(calls=1))
    budget.settle(reservation, None)
    with pytest.raises(KeyError):
        budget.settle(reservation, None)
    assert (budget.spent, budget.reserved) == (Cost(calls=1), NOTHING)


def test_a_call_that_cost_more_than_its_worst_case_is_counted_as_it_was_and_nothing_follows():
    budget = Budget([FREE], tokens=100)
    other = reserve(budget, Cost(10, 10, 1))
    budget.settle(reserve(budget, Cost(10, 10, 1)), Cost(10, 200, 1))
    assert budget.spent.tokens == 210
    with pytest.raises(BudgetReached, match="210 of 100"):
        budget.reserve(Cost(1, 0, 1))
    budget.settle(other, None)


def test_a_cap_on_money_needs_every_price():
    with pytest.raises(ConfigError, match=r"'local'.*price"):
        Budget([PRICED, FREE], money=5.0)
    with pytest.raises(ConfigError, match=r"ledger.*price"):
        Budget([PRICED], money=5.0, spent=cost_of_call(None, 1, 1))
    with pytest.raises(ValueError, match="not known"):
        Budget([PRICED], money=5.0).reserve(cost_of_call(None, 1, 1))
    Budget([PRICED, FREE], tokens=5, calls=5)


amounts = st.integers(0, 300)
caps = st.none() | st.integers(0, 1000)


class AnyOrder(RuleBasedStateMachine):
    """Calls that are sent, end and are lost in any order, and processes that die: no cap is ever exceeded."""

    def __init__(self):
        super().__init__()
        self.begin(None, None, None)

    @initialize(cents=caps, tokens=caps, calls=st.none() | st.integers(0, 12))
    def begin(self, cents, tokens, calls):
        self.caps = {"money": None if cents is None else cents / 100, "tokens": tokens, "calls": calls}
        self.budget = Budget([PRICED], **self.caps)
        self.flying: list[Reservation] = []
        self.true_cost = NOTHING  # what the server would bill

    @rule(input_tokens=amounts, output_tokens=amounts, cents=amounts)
    def send(self, input_tokens, output_tokens, cents):
        worst = Cost(input_tokens, output_tokens, 1, Decimal(cents) / 100)
        spent, reserved = self.budget.spent, self.budget.reserved
        try:
            reservation = self.budget.reserve(worst)
        except BudgetReached:
            assert not self.fits(spent + worst)
            return
        assert (reservation is not None) == self.fits(spent + reserved + worst)
        if reservation is None:
            assert self.flying, "nothing to wait for"
        else:
            self.flying.append(reservation)

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 50), shares=st.tuples(*[st.fractions(0, 1, max_denominator=100)] * 3))
    def answer(self, at, shares):
        worst = self.flying[at % len(self.flying)].worst
        money = (worst.money or Decimal(0)) * int(shares[2] * 100) / 100
        actual = Cost(int(worst.input_tokens * shares[0]), int(worst.output_tokens * shares[1]), 1, money)
        self.budget.settle(self.flying.pop(at % len(self.flying)), actual)
        self.true_cost += actual

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 50), billed=st.booleans())
    def lose(self, at, billed):
        reservation = self.flying.pop(at % len(self.flying))
        self.budget.settle(reservation, None)
        self.true_cost += reservation.worst if billed else NOTHING

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 50))
    def push_back(self, at):
        self.budget.settle(self.flying.pop(at % len(self.flying)), NOTHING)

    @rule()
    def die_and_run_again(self):
        spent = sum((r.worst for r in self.flying), self.budget.spent)
        self.true_cost = sum((r.worst for r in self.flying), self.true_cost)
        self.budget, self.flying = Budget([PRICED], **self.caps, spent=spent), []

    def fits(self, cost: Cost) -> bool:
        money, tokens, calls = self.caps["money"], self.caps["tokens"], self.caps["calls"]
        return (
            (money is None or cost.money <= Decimal(str(money)))
            and (tokens is None or cost.input_tokens + cost.output_tokens <= tokens)
            and (calls is None or cost.calls <= calls)
        )

    @invariant()
    def never_exceeded(self):
        assert self.fits(self.budget.spent + self.budget.reserved)
        assert self.fits(self.true_cost)
        assert self.budget.reserved == sum((r.worst for r in self.flying), NOTHING)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40)
