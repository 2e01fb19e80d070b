"""The pool: who takes the next request, who is taken out and tried again, and when nobody is there."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reward_distiller.teacher.pool import FIRST_CONTACT, FIRST_PAUSE, LONGEST_PAUSE, RUN, Pool, Taken


def take(pool: Pool, now: float) -> Taken:
    taken = pool.take(now)
    assert taken is not None
    return taken


def greet(pool: Pool, count: int) -> None:
    """Let every endpoint answer."""
    taken: list[Taken] = []
    while len({t.endpoint for t in taken}) < count:
        taken.append(take(pool, 0.0))
    for t in taken:
        pool.answered(t, 0.0)


def break_all(pool: Pool, now: float, endpoint: str, count: int) -> None:
    """Let so many requests to one endpoint fail; the others answer."""
    others: list[Taken] = []
    while count:
        taken = take(pool, now)
        if taken.endpoint == endpoint:
            pool.failed(taken, now, reached=False)
            count -= 1
        else:
            others.append(taken)
    for taken in others:
        pool.answered(taken, now)


def test_no_endpoint_no_pool():
    with pytest.raises(ValueError, match="endpoint"):
        Pool({})


def test_the_endpoint_with_the_most_room_takes_it_and_equals_take_turns():
    pool = Pool({"a": 2, "b": 4, "c": 2})
    order = "".join(take(pool, 0.0).endpoint for _ in range(8))
    assert order[:2] == "bb"
    assert sorted(order[2:5]) == sorted(order[5:]) == ["a", "b", "c"]
    assert pool.take(0.0) is None
    assert pool.wake_at(0.0) is None

    turns = Pool({"a": 8, "b": 8})
    seen = []
    for _ in range(6):
        taken = take(turns, 0.0)
        turns.answered(taken, 0.0)
        seen.append(taken.endpoint)
    assert seen == ["a", "b"] * 3


def test_a_paused_endpoint_leaves_the_work_to_the_others():
    pool = Pool({"a": 4, "b": 4})
    a = take(pool, 0.0)
    pool.pushed_back(a, 0.0, retry_after=30.0)
    rest = [take(pool, 1.0) for _ in range(4)]
    assert {t.endpoint for t in rest} == {"b"}
    assert pool.take(1.0) is None
    assert pool.wake_at(1.0) == 30.0
    assert take(pool, 30.0).endpoint == "a"


def test_an_endpoint_goes_out_after_a_run_of_failures_and_not_before():
    pool = Pool({"a": 64, "b": 64})
    greet(pool, 2)
    break_all(pool, 1.0, "a", RUN - 1)
    while (taken := take(pool, 1.0)).endpoint != "a":
        pool.answered(taken, 1.0)
    pool.answered(taken, 1.0)  # ends the run
    break_all(pool, 1.0, "a", RUN - 1)
    assert {take(pool, 1.0).endpoint for _ in range(8)} == {"a", "b"}
    break_all(pool, 1.0, "a", 1)
    assert {take(pool, 1.0).endpoint for _ in range(60)} == {"b"}
    assert pool.out_since is None, "one is in"


@pytest.mark.parametrize("end", ["answered", "pushed_back"])
def test_one_probe_goes_out_after_the_pause_and_brings_the_endpoint_back(end):
    pool = Pool({"a": 8})
    greet(pool, 1)
    break_all(pool, 1.0, "a", RUN)
    assert pool.out_since == 1.0
    assert pool.take(1.0) is None
    assert pool.wake_at(1.0) == 1.0 + FIRST_PAUSE
    assert pool.take(0.999 + FIRST_PAUSE) is None
    probe = take(pool, 1.0 + FIRST_PAUSE)
    assert pool.take(50.0) is None, "one probe at a time"
    assert pool.wake_at(50.0) is None
    getattr(pool, end)(probe, 60.0)
    assert pool.out_since is None
    assert len([take(pool, 60.0) for _ in range(4)]) == 4


def test_all_are_out_since_the_last_of_them_went_out():
    pool = Pool({"a": 8, "b": 8})
    greet(pool, 2)
    break_all(pool, 1.0, "a", RUN)
    assert pool.out_since is None, "b is in"
    for _ in range(RUN):
        pool.failed(take(pool, 1.2), 1.2, reached=False)
    assert pool.out_since == 1.2
    pool.failed(take(pool, 2.0), 2.0, reached=False)
    assert pool.out_since == 1.2


def test_a_probe_that_is_due_goes_before_what_the_others_could_take():
    pool = Pool({"a": 60, "b": 64})
    greet(pool, 2)
    break_all(pool, 1.0, "a", RUN)
    assert take(pool, 1.1).endpoint == "b"
    probe = take(pool, 1.0 + FIRST_PAUSE)
    assert (probe.endpoint, probe.probe) == ("a", True)
    assert take(pool, 1.0 + FIRST_PAUSE).endpoint == "b"


def test_the_pause_grows_with_every_probe_that_fails_up_to_a_longest_and_an_answer_resets_it():
    pool, now, pauses = Pool({"a": 8}), 1.0, []
    greet(pool, 1)
    break_all(pool, now, "a", RUN)
    for _ in range(10):
        wake = pool.wake_at(now)
        pauses.append(wake - now)
        now = wake
        pool.failed(take(pool, now), now, reached=False)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE == max(pauses)
    assert pool.out_since == 1.0, "since it was first taken out"
    now = pool.wake_at(now)
    pool.answered(take(pool, now), now)
    break_all(pool, now, "a", RUN)
    assert pool.wake_at(now) == now + FIRST_PAUSE


def test_a_burst_that_breaks_at_once_counts_once_whenever_its_failures_come():
    pool = Pool({"a": 128})
    greet(pool, 1)
    burst = [take(pool, 1.0) for _ in range(128)]
    for taken in burst[:50]:
        pool.failed(taken, 2.0, reached=False)
    assert pool.wake_at(2.0) == 2.0 + FIRST_PAUSE
    probe = take(pool, 3.0)
    for taken in burst[50:80]:
        pool.failed(taken, 3.0, reached=False)
    pool.answered(probe, 3.0)
    for taken in burst[80:]:
        pool.failed(taken, 300.0, reached=False)  # timed out, long after the endpoint came back
    assert pool.out_since is None
    assert take(pool, 300.0).endpoint == "a"


def test_answers_to_older_requests_do_not_bring_an_endpoint_back():
    pool = Pool({"a": 16})
    greet(pool, 1)
    old = [take(pool, 1.0) for _ in range(3)]
    break_all(pool, 1.0, "a", RUN)
    pool.answered(old[0], 1.1)
    assert pool.take(1.1) is None, "it may be going down, and finishing what it has"
    probe = take(pool, 2.0)
    pool.pushed_back(old[1], 2.5, retry_after=0.0)
    assert pool.out_since == 1.0
    pool.failed(probe, 3.0, reached=False)
    pool.answered(old[2], 3.1)
    assert pool.wake_at(3.1) == 3.0 + 2 * FIRST_PAUSE


def test_an_endpoint_that_never_answered_is_tried_first_contact_times_a_pause_apart():
    pool = Pool({"a": 128})
    burst = [take(pool, 0.0) for _ in range(128)]
    for taken in burst:
        pool.failed(taken, 0.0, reached=False)
    now, attempts = 0.0, 1
    while not pool.all_unreachable:
        now = pool.wake_at(now)
        pool.failed(take(pool, now), now, reached=False)
        attempts += 1
    assert attempts == FIRST_CONTACT
    assert now == 3 * FIRST_PAUSE


@pytest.mark.parametrize("contact", ["answer", "push-back", "HTTP 500"])
def test_one_that_said_anything_at_all_is_reachable(contact):
    pool, now = Pool({"a": 4, "b": 4}), 0.0
    for round in range(20):
        taken = take(pool, now)
        if taken.endpoint == "b" and round < 2 and contact == "answer":
            pool.answered(taken, now)
        elif taken.endpoint == "b" and round < 2 and contact == "push-back":
            pool.pushed_back(taken, now)
        else:
            pool.failed(taken, now, reached=taken.endpoint == "b" and contact == "HTTP 500")
        assert not pool.all_unreachable
        now = pool.wake_at(now)
    assert pool.out_since is not None


def test_all_must_be_unreachable():
    pool, now = Pool({"a": 4, "b": 4}), 0.0
    failures: Counter[str] = Counter()
    while not pool.all_unreachable:
        taken = take(pool, now)
        pool.failed(taken, now, reached=False)
        failures[taken.endpoint] += 1
        now = pool.wake_at(now)
    assert failures == {"a": FIRST_CONTACT, "b": FIRST_CONTACT}


def test_tests_and_callers_choose_the_first_pause():
    pool = Pool({"a": 4}, first_pause=0.01)
    pool.failed(take(pool, 0.0), 0.0, reached=False)
    assert pool.wake_at(0.0) == 0.01


def test_of_three_servers_one_that_dies_for_a_while_costs_only_its_own_share():
    """8 slots each, half a second an answer; `b` refuses connections from 100 to 200 s."""

    def down(endpoint: str, now: float) -> bool:
        return endpoint == "b" and 100 <= now < 200

    pool, now, flying, ends, number = Pool(dict.fromkeys("abc", 8)), 0.0, [], [], 0
    while now < 300.0:
        while (taken := pool.take(now)) is not None:
            number += 1
            broken = down(taken.endpoint, now)
            heapq.heappush(flying, (now + (0.01 if broken else 0.5), number, taken, broken))
        wake = pool.wake_at(now)
        if wake is not None and wake < flying[0][0]:
            now = wake
            continue
        now, _, taken, broken = heapq.heappop(flying)
        if broken:
            pool.failed(taken, now, reached=False)
        else:
            pool.answered(taken, now)
        ends.append((now, taken.endpoint, broken))

    def answers(start: float, end: float) -> Counter[str]:
        return Counter(endpoint for at, endpoint, broken in ends if start <= at < end and not broken)

    assert answers(0, 100)["b"] >= 0.99 * 100 * 16
    assert answers(101, 200)["b"] == 0
    assert answers(100, 200)["a"] >= 0.99 * 100 * 16
    assert sum(broken for *_, broken in ends) <= 2 * 8 + 8, "what was on its way, and the probes"
    assert answers(200 + LONGEST_PAUSE + 1, 300)["b"] >= 0.99 * (99 - LONGEST_PAUSE) * 16


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes back in whatever order: caps hold, one probe at a time, and no endpoint is ever forgotten."""

    def __init__(self):
        super().__init__()
        self.begin([4, 4])

    @initialize(most=st.lists(st.integers(1, 20), min_size=1, max_size=4))
    def begin(self, most):
        self.most = {str(n): m for n, m in enumerate(most)}
        self.pool, self.now = Pool(self.most), 0.0
        self.flying: list[Taken] = []
        self.said_anything = False

    @rule(count=st.integers(1, 30))
    def send(self, count):
        for _ in range(count):
            wake = self.pool.wake_at(self.now)
            taken = self.pool.take(self.now)
            assert (taken is not None) == (wake == self.now)
            if taken is not None:
                self.flying.append(taken)

    @rule(seconds=st.floats(0.0, 100.0))
    def wait(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.flying)
    @rule(at=st.integers(0, 100), end=st.sampled_from(["answered", "pushed_back", "broken", "broken", "HTTP 500"]))
    def end(self, at, end):
        taken = self.flying.pop(at % len(self.flying))
        if end in ("answered", "pushed_back"):
            getattr(self.pool, end)(taken, self.now)
            assert not taken.probe or self.pool.out_since is None
        else:
            self.pool.failed(taken, self.now, reached=end == "HTTP 500")
        self.said_anything |= end != "broken"

    @precondition(lambda self: self.flying)
    @rule()
    def break_everything(self):
        while self.flying:
            self.pool.failed(self.flying.pop(), self.now, reached=False)

    @invariant()
    def holds(self):
        flying = Counter(t.endpoint for t in self.flying)
        assert all(flying[name] <= most for name, most in self.most.items())
        wake = self.pool.wake_at(self.now)
        if self.flying:
            assert wake is None or wake >= self.now
        else:  # nothing in flight: time alone must open a way, and soon
            assert wake is not None
            assert wake <= self.now + LONGEST_PAUSE
        if self.said_anything:
            assert not self.pool.all_unreachable
        if self.pool.out_since is not None:
            assert self.pool.out_since <= self.now


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=80, stateful_step_count=40)
