"""The limit: when it grows, when it is cut and by how much, and what a server gets to see of it."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reward_distiller.teacher.concurrency import (
    GIVE_WAY,
    LONGEST_OWN_PAUSE,
    LONGEST_PAUSE,
    OWN_PAUSE,
    SAMPLE,
    SLOW,
    START,
    TRIES,
    Concurrency,
    Flight,
)


def fill(limit: Concurrency, now: float) -> list[Flight]:
    flights = []
    while limit.may_send(now):
        flights.append(limit.sent(now))
    return flights


def one_round(limit: Concurrency, now: float, seconds: float = 1.0) -> int:
    """Use the limit up, and answer all of it; give how many that were."""
    flights = fill(limit, now)
    for flight in flights:
        limit.answered(flight, now + seconds)
    return len(flights)


def test_it_starts_where_the_user_or_the_constant_says_and_sends_no_more():
    for most, start in ((1, 1), (16, 16), (START + 1, START), (4096, START)):
        limit = Concurrency(most)
        assert len(fill(limit, 0.0)) == start == limit.in_flight == limit.limit
        with pytest.raises(ValueError, match="may_send"):
            limit.sent(0.0)
    with pytest.raises(ValueError, match="never asked"):
        Concurrency(0)


def test_it_doubles_each_round_up_to_what_the_user_allows():
    limit = Concurrency(600)
    assert [one_round(limit, float(now)) for now in range(6)] == [128, 256, 512, 600, 600, 600]


def test_answers_that_come_one_by_one_double_it_as_well():
    limit = Concurrency(1024)
    flights = fill(limit, 0.0)
    for flight in list(flights):
        limit.answered(flight, 1.0)
        flights += fill(limit, 1.0)
    assert limit.limit == limit.in_flight == 2 * START


def test_a_limit_that_nobody_uses_does_not_grow():
    limit = Concurrency(1024)
    for now in range(1000):
        flights = [limit.sent(float(now)) for _ in range(START - 1)]
        for flight in flights:
            limit.answered(flight, now + 0.5)
    assert limit.limit == START


def test_a_push_back_halves_once_for_all_requests_that_were_on_their_way():
    limit = Concurrency(100)
    flights = fill(limit, 0.0)
    for flight in flights[:60]:
        limit.pushed_back(flight, 1.0)
    assert (limit.limit, limit.in_flight) == (50, 40)
    later = fill(limit, 2.0)
    assert len(later) == 10
    limit.pushed_back(later[0], 3.0)
    assert limit.limit == 25
    for flight in [*flights[60:], *later[1:]]:
        limit.pushed_back(flight, 4.0)
    assert (limit.limit, limit.in_flight) == (25, 0)


def test_answers_to_what_was_sent_before_a_cut_do_not_grow_it():
    limit = Concurrency(100)
    first, *rest = fill(limit, 0.0)
    limit.pushed_back(first, 1.0)
    for flight in rest:
        limit.answered(flight, 1.0)
    assert limit.limit == 50


def test_after_a_push_back_it_comes_back_fast_and_then_grows_by_one_a_round():
    limit = Concurrency(1000)
    one_round(limit, 0.0)
    first, *rest = fill(limit, 10.0)
    limit.pushed_back(first, 10.0)
    for flight in rest:
        limit.answered(flight, 11.0)
    rounds = [one_round(limit, 20.0 + now) for now in range(32)]
    assert rounds[:5] == [128, 230, 231, 232, 233]
    assert rounds[-1] == 260, "also past the 256 that were pushed back"


def test_after_an_outage_it_doubles_back_to_what_the_server_took_before_it():
    limit = Concurrency(1000)
    one_round(limit, 0.0)
    for now in range(10):
        for flight in fill(limit, 1000.0 * now):
            limit.pushed_back(flight, 1000.0 * now)
    assert limit.limit == 1
    rounds = [one_round(limit, 20_000.0 + now) for now in range(12)]
    assert rounds == [1, 2, 4, 8, 16, 32, 64, 128, 230, 231, 232, 233]


def test_the_limit_never_falls_below_one():
    limit = Concurrency(3)
    for now in range(0, 10_000, 100):
        for flight in fill(limit, float(now)):
            limit.pushed_back(flight, now + 1.0)
        assert limit.limit >= 1
    assert limit.limit == 1
    assert limit.may_send(1e6)


def test_plain_failures_neither_cut_nor_grow():
    limit = Concurrency(1024)
    for now in range(100):
        for flight in fill(limit, float(now)):
            limit.failed(flight, now + 0.5)
    assert (limit.limit, limit.in_flight) == (START, 0)


def test_a_flight_ends_once():
    limit = Concurrency(4)
    flight = limit.sent(0.0)
    limit.answered(flight, 1.0)
    for end in (limit.answered, limit.pushed_back, limit.failed):
        with pytest.raises(KeyError):
            end(flight, 2.0)
    assert (limit.limit, limit.in_flight) == (4, 0)


def test_retry_after_pauses_until_then_and_the_longest_one_counts():
    limit = Concurrency(8)
    a, b, c, d = (limit.sent(0.0) for _ in range(4))
    limit.pushed_back(a, 1.0, 5.0)
    limit.pushed_back(b, 2.0, 1.0)
    assert not limit.may_send(5.99)
    assert limit.wake_at(2.0) == 6.0
    limit.pushed_back(c, 3.0, 7.0)  # of the same episode: cuts no more, but the server has said so
    assert limit.limit == 4
    assert limit.wake_at(3.0) == 10.0
    limit.answered(d, 4.0)
    assert not limit.may_send(9.99)
    assert limit.may_send(10.0)
    assert limit.wake_at(11.0) == 11.0


def test_no_server_can_pause_it_for_longer_than_the_constant():
    limit = Concurrency(8)
    limit.pushed_back(limit.sent(0.0), 1.0, 86_400.0)
    assert limit.wake_at(1.0) == 1.0 + LONGEST_PAUSE


def test_a_full_limit_wakes_by_the_end_of_a_flight_only():
    limit = Concurrency(2)
    a, _ = fill(limit, 0.0)
    assert limit.wake_at(0.0) is None
    limit.failed(a, 1.0)
    assert limit.wake_at(1.0) == 1.0


def test_where_nothing_is_left_to_cut_it_pauses_by_itself_longer_each_time_until_an_answer():
    limit, now, pauses = Concurrency(1), 0.0, []
    for _ in range(10):
        limit.pushed_back(limit.sent(now), now)
        wake = limit.wake_at(now)
        pauses.append(wake - now)
        now = wake
    assert pauses[:3] == [OWN_PAUSE, 2 * OWN_PAUSE, 4 * OWN_PAUSE]
    assert pauses[-1] == LONGEST_OWN_PAUSE
    limit.pushed_back(limit.sent(now), now, 0.0)
    assert limit.may_send(now), "what the server says goes before"
    limit.answered(limit.sent(now), now)
    limit.pushed_back(limit.sent(now), now)
    assert limit.wake_at(now) == now + OWN_PAUSE


# -- latency, told by hand ---------------------------------------------------------------------------


def test_single_slow_answers_change_nothing_however_slow():
    limit = Concurrency(SAMPLE)
    for now in range(0, 10_000, 1000):
        one_round(limit, float(now))
    for now in range(10_000, 100_000, 1000):
        flights = fill(limit, float(now))
        limit.answered(flights.pop(), now + 900.0)
        for flight in flights:
            limit.answered(flight, now + 1.0)
        assert limit.limit == SAMPLE


def test_far_slower_answers_cut_gently_once_an_episode_and_only_so_often_without_relief():
    limit = Concurrency(100)
    for now in range(10):
        one_round(limit, float(now))
    limits = []
    for now in range(100, 3000, 100):
        one_round(limit, float(now), seconds=2 * SLOW)
        limits.append(limit.limit)
    cuts = [b for a, b in itertools.pairwise([100, *limits]) if b < a]
    assert cuts[0] == int(100 * GIVE_WAY)
    assert len(cuts) == TRIES, "none helped: answers are that long now"
    assert limits[-1] == 100
    back = limits.index(cuts[-1])
    assert 100 in limits[back : back + 6], "in a few rounds"


def test_slower_answers_within_what_batching_explains_cut_nothing():
    limit = Concurrency(100)
    for now in range(0, 100, 10):
        one_round(limit, float(now))
    for now in range(100, 3000, 10):
        one_round(limit, float(now), seconds=0.95 * SLOW)
    assert limit.limit == 100


def test_every_time_that_answers_turn_slow_counts_anew():
    limit, cuts = Concurrency(1000), 0
    for now in range(0, 10_000, 100):
        before = limit.limit
        one_round(limit, float(now), seconds=2 * SLOW if now % 1000 == 900 else 1.0)
        cuts += limit.limit < before
    assert cuts == 10


def test_it_gives_way_for_as_long_as_that_shortens_a_queue_and_no_longer():
    limit = Concurrency(1000)
    for now in range(10):
        one_round(limit, float(now))
    for now in range(1000, 7000, 1000):
        one_round(limit, float(now), seconds=0.04 * limit.limit)
    relieved = limit.limit
    assert relieved == pytest.approx(1000 * GIVE_WAY**6, rel=0.02)
    for now in range(10_000, 40_000, 1000):
        one_round(limit, float(now), seconds=12.0)
    assert limit.limit >= relieved


def test_quick_answers_that_come_first_do_not_stand_for_all():
    limit = Concurrency(2 * SAMPLE)
    flights = fill(limit, 0.0)
    for flight in flights[::2]:
        limit.answered(flight, 0.1)
    for flight in flights[1::2]:
        limit.answered(flight, 3.0)
    for now in range(10, 1000, 10):
        one_round(limit, float(now), seconds=1.0)
        assert limit.limit == 2 * SAMPLE


def test_latency_says_nothing_while_the_limit_is_not_used():
    limit = Concurrency(100)
    for now in range(10):
        one_round(limit, float(now))
    for now in range(100, 10_000, 100):
        for flight in [limit.sent(float(now)) for _ in range(99)]:
            limit.answered(flight, now + 50.0)
    assert limit.limit == 100


# -- against servers -------------------------------------------------------------------------------

Length = Callable[[random.Random], float]
LENGTHS: dict[str, tuple[Length, float]] = {  # seconds of an answer, and their mean
    "fixed": (lambda draw: 0.5, 0.5),
    "lognormal": (lambda draw: draw.lognormvariate(-1.0, 1.0), math.exp(-0.5)),
    "short or long": (lambda draw: draw.choice((0.1, 3.0)), 1.55),
}
PUSH_BACK = 0.02  # seconds until a server has said no


@dataclass
class Refusing:
    """Answers so many at once, each by itself, and pushes back what is beyond that."""

    capacity: Callable[[float], int]
    length: Length = LENGTHS["fixed"][0]
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    flying: int = 0

    def request(self, now: float) -> tuple[float, bool]:
        if self.flying >= self.capacity(now):
            return now + PUSH_BACK, False
        self.flying += 1
        return now + self.length(self.draw), True

    def end(self) -> None:
        self.flying -= 1


@dataclass
class Queueing:
    """Answers so many at once, and lets all others wait."""

    slots: int
    length: Length
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def __post_init__(self) -> None:
        self.free_at = [0.0] * self.slots

    def request(self, now: float) -> tuple[float, bool]:
        end = max(now, heapq.heappop(self.free_at)) + self.length(self.draw)
        heapq.heappush(self.free_at, end)
        return end, True

    def end(self) -> None: ...


@dataclass
class Metered:
    """So many requests a second, of which one second's worth may come at once."""

    rate: float
    level: float = 0.0
    at: float = 0.0

    def request(self, now: float) -> tuple[float, bool]:
        self.level = min(self.rate, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < 1:
            return now + PUSH_BACK, False
        self.level -= 1
        return now + 0.5, True

    def end(self) -> None: ...


class End(NamedTuple):
    at: float
    answered: bool
    latency: float
    limit: int


def simulate(server, limit: Concurrency, *, calls: float = math.inf, until: float = math.inf) -> list[End]:
    """So many answers, or what ended until then, of a caller who always has more to ask."""
    now, wanted, flying, ends = 0.0, calls, [], []
    while True:
        while wanted > 0 and limit.may_send(now):
            flight = limit.sent(now)
            end, accepted = server.request(now)
            heapq.heappush(flying, (end, flight.number, flight, accepted))
            wanted -= 1
        wake = limit.wake_at(now) if wanted > 0 else None
        if wake is not None and (not flying or wake < flying[0][0]):
            now = wake
            continue
        if not flying or flying[0][0] > until:
            return ends
        now, _, flight, accepted = heapq.heappop(flying)
        if accepted:
            server.end()
            limit.answered(flight, now)
        else:
            limit.pushed_back(flight, now)
            wanted += 1
        ends.append(End(now, accepted, now - flight.sent_at, limit.limit))


def use(ends: list[End], start: float, end: float, capacity: int, mean: float) -> float:
    """The share of what a server could have answered in that time that it did answer."""
    return sum(e.answered and start <= e.at < end for e in ends) * mean / (capacity * (end - start))


def refused(ends: list[End]) -> float:
    return sum(not e.answered for e in ends) / len(ends)


def test_a_server_that_takes_all_is_used_from_the_start():
    ends = simulate(Refusing(lambda now: 10**6), Concurrency(256), calls=10_000)
    assert len(ends) == 10_000
    assert ends[-1].at <= 1.05 * 10_000 / 256 * 0.5


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("capacity", [1, 2, 4, 16, 30, 64, 200])
def test_a_hidden_capacity_is_used_and_seldom_exceeded(capacity, lengths):
    length, mean = LENGTHS[lengths]
    until = 20_000 * mean / capacity
    ends = simulate(Refusing(lambda now: capacity, length), Concurrency(256), until=until)
    assert use(ends, 0.0, until, capacity, mean) >= 0.85
    assert refused(ends) <= 0.03


@pytest.mark.parametrize("capacity", [16, 64, 200])
def test_a_capacity_that_drops_to_a_quarter_and_comes_back_is_followed(capacity):
    server = Refusing(lambda now: capacity // 4 if 100 <= now < 200 else capacity)
    ends = simulate(server, Concurrency(256), until=400.0)
    assert use(ends, 50, 100, capacity, 0.5) >= 0.85
    assert use(ends, 110, 200, capacity // 4, 0.5) >= 0.85
    back = next(e.at for e in ends if e.at >= 200 and e.limit >= 0.9 * capacity)
    assert back <= 200 + 10 + 0.75 * capacity * 0.5, "some rounds to trust it again, then one more a round"
    assert use(ends, back, back + 100, capacity, 0.5) >= 0.85
    assert refused([e for e in ends if e.at >= 102]) <= 0.03


@pytest.mark.parametrize("minutes", [1, 10])
def test_an_outage_takes_few_attempts_and_the_limit_comes_back_soon_after(minutes):
    over = 100.0 + 60 * minutes
    server = Refusing(lambda now: 0 if 100 <= now < over else 64)
    ends = simulate(server, Concurrency(256), until=over + 200)
    during = [e for e in ends if 101 <= e.at < over]
    assert not any(e.answered for e in during)
    assert len(during) <= 10 + minutes
    assert use(ends, over + 60 + 10, over + 200, 64, 0.5) >= 0.85, "a pause of 60 s at most, and some rounds"


@pytest.mark.parametrize("rate", [10.0, 100.0])
def test_a_server_that_counts_requests_a_second_is_used_as_well(rate):
    until = 20_000 / rate
    ends = simulate(Metered(rate), Concurrency(256), until=until)
    assert sum(e.answered for e in ends) / until >= 0.85 * rate
    assert refused(ends) <= 0.04


@pytest.mark.parametrize("lengths", LENGTHS)
def test_answers_of_very_different_lengths_are_no_reason_to_give_way(lengths):
    ends = simulate(Refusing(lambda now: 10**6, LENGTHS[lengths][0]), Concurrency(256), calls=30_000)
    assert all(b.limit >= a.limit for a, b in itertools.pairwise(ends))
    assert ends[-1].limit == 256


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("slots", [4, 64, 128])
def test_a_server_that_lets_requests_wait_is_kept_busy_with_no_endless_queue(slots, lengths):
    length, mean = LENGTHS[lengths]
    until = 40_000 * mean / slots
    ends = simulate(Queueing(slots, length), Concurrency(4096), until=until)
    assert use(ends, 0.0, until, slots, mean) >= 0.97
    late = [e.limit for e in ends[len(ends) // 2 :]]
    assert max(late) <= SLOW * 1.5 * max(slots, START)


# -- any order of events -----------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes back in whatever order: the limit keeps its bounds, and changes by what is allowed only."""

    def __init__(self):
        super().__init__()
        self.begin(300)

    @initialize(most=st.integers(1, 300))
    def begin(self, most):
        self.limit, self.most, self.now = Concurrency(most), most, 0.0
        self.flying: list[tuple[Flight, int]] = []  # and the number of cuts before it was sent
        self.cuts = 0
        self.not_before = 0.0

    def take(self, at: int) -> tuple[Flight, bool]:
        """A flight that ends, and whether it was sent since the last cut."""
        flight, cuts = self.flying.pop(at % len(self.flying))
        return flight, cuts == self.cuts

    def gave_way(self, before: int) -> bool:
        return self.limit.limit == max(1, int(before * GIVE_WAY))

    @rule(count=st.integers(1, 300))
    def send(self, count):
        for _ in range(count):
            if self.limit.may_send(self.now):
                assert self.now >= self.not_before
                assert len(self.flying) < self.limit.limit
                self.flying.append((self.limit.sent(self.now), self.cuts))

    @rule(seconds=st.floats(0.0, 1000.0))
    def wait(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 300), count=st.integers(1, 300))
    def answer(self, at, count):
        for _ in range(min(count, len(self.flying))):
            flight, fresh = self.take(at)
            before = self.limit.limit
            self.limit.answered(flight, self.now)
            assert self.limit.limit in (before, before + 1) or self.gave_way(before)
            assert fresh or self.limit.limit == before
            self.cuts += self.limit.limit < before

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 300), retry_after=st.none() | st.floats(0.0, 2000.0))
    def push_back(self, at, retry_after):
        flight, fresh = self.take(at)
        before = self.limit.limit
        self.limit.pushed_back(flight, self.now, retry_after)
        if fresh:
            assert self.limit.limit == max(1, before // 2) or self.gave_way(before)
        else:
            assert self.limit.limit == before
        if retry_after is not None:
            self.not_before = max(self.not_before, self.now + min(retry_after, LONGEST_PAUSE))
        self.cuts += fresh

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 300))
    def fail(self, at):
        flight, fresh = self.take(at)
        before = self.limit.limit
        self.limit.failed(flight, self.now)
        assert self.limit.limit == before or (fresh and self.gave_way(before))
        self.cuts += self.limit.limit < before

    @invariant()
    def bounds(self):
        assert 1 <= self.limit.limit <= self.most
        assert self.limit.in_flight == len(self.flying)
        wake = self.limit.wake_at(self.now)
        assert (wake == self.now) == self.limit.may_send(self.now)
        if wake is None:
            assert len(self.flying) >= self.limit.limit
        else:
            assert self.limit.may_send(wake)
            assert wake <= self.now + LONGEST_PAUSE


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)
