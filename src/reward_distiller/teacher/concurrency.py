"""How many requests one endpoint may have in flight, found out from how it answers.

The limit doubles each round until the first push-back, then grows by one a round; it halves on a push-back, and
gives way a little where answers take far longer than they did. No clock and no I/O: every method is told the
time, in seconds of one clock that never goes back. Knows nothing of what is asked, or of other endpoints.

For each request: ask `may_send(now)`, take `flight = sent(now)`, send, and hand the flight back exactly once, to

- `answered` where the server answered, were it to refuse what is asked (HTTP 200, 400);
- `pushed_back` where it said that it has too much to do (HTTP 429, 503, 529), with its Retry-After in seconds;
- `failed` for all else: HTTP 500, a broken connection, a time-out, a request that was called off.

Where it may not send, wait for the next flight to end, or until `wake_at(now)`. All methods are O(1).
"""

from __future__ import annotations

import math
from typing import NamedTuple

START = 128  # in flight at first, if `most` allows as many: whoever wrote a larger number expects the server to take
# it, and 256 are one round away. A server that takes few refuses two hundred requests on the way down, once.
LONGEST_PAUSE = 600.0  # seconds; a server that asks for more (the quota of a day) is asked again after these
OWN_PAUSE, LONGEST_OWN_PAUSE = 0.5, 60.0  # seconds, doubling: where one request at a time is pushed back there is
# nothing left to cut, and asking on would use up the attempts of every question in an outage of minutes
FAST_AGAIN = 0.9  # of the limit that was pushed back: up to there it doubles again. From a half upwards by one a round,
# a server would on average be three quarters used; the last tenth is for servers that take less than they did.
PROBE_EVERY = 64  # answers between two steps up, where push-backs come more often than every 128 answers: a server that
# takes 4 would else refuse one request in 11
SAMPLE = 64  # requests sent one after the other, whose mean latency is taken when the last of them has ended: sooner,
# the quick ones would stand for all. One that takes a thousand times as long moves a geometric mean by a tenth.
SLOW = 4.0  # times the lowest mean. A server that batches answers two or three times as slowly at its best throughput
# as when it idles; beyond that requests stand in a queue, and more of them bring nothing.
GIVE_WAY = 0.8  # of the limit is left where latency is high: answers do come, and their length may be the reason
TRIES = 4  # such cuts before asking whether those after the first brought anything (what was sent before the first may
# have had a shorter queue before it); a single one is lost in the noise of a sample
RELIEF = 0.5  # of what a queue would have shrunk by those cuts must be saved: else answers are that long now
SHORTEST = 0.01  # seconds; below that, latency is this process's own


class Flight(NamedTuple):
    """A request on its way: its number, when it was sent, and how many cuts there had been."""

    number: int
    sent_at: float
    cuts: int


class Concurrency:
    """`limit` is how many requests may be in flight now: never above `most`, the user's word, and never below 1."""

    def __init__(self, most: int):
        if most < 1:
            raise ValueError(f"an endpoint with {most} requests in flight at most is never asked")
        self.limit = min(START, most)
        self._most = most
        self._flying: set[int] = set()
        self._sent = 0
        self._filled_by = 0  # the last request that used the limit up: it and all before it flew at full use
        self._cuts = 0
        self._fast_below: float = math.inf  # the limit doubles below that
        self._steps_from = 0  # answers counted towards the next step up
        self._served = True  # whether a request sent since the last cut was answered
        self._quiet = 2 * PROBE_EVERY  # answers at full use since the last push-back
        self._hold = 0  # answers that a step up takes at least, while push-backs are frequent
        self._paused_until = -math.inf
        self._own_pause = OWN_PAUSE
        self._latency = _Latency()

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    @property
    def room(self) -> int:
        """Requests that the limit leaves room for; below 0 while more are in flight than it allows since a cut."""
        return self.limit - self.in_flight

    def may_send(self, now: float) -> bool:
        return self.room > 0 and now >= self._paused_until

    def wake_at(self, now: float) -> float | None:
        """From when a request may be sent if no flight ends; None where only the end of a flight makes room."""
        return max(now, self._paused_until) if self.room > 0 else None

    def sent(self, now: float) -> Flight:
        """Count a request as sent. Raises ValueError where `may_send` says no."""
        if not self.may_send(now):
            raise ValueError("no request may be sent now: ask may_send first")
        self._sent += 1
        self._flying.add(self._sent)
        if self.room == 0:
            self._filled_by = self._sent
        return Flight(self._sent, now, self._cuts)

    def answered(self, flight: Flight, now: float) -> None:
        self._land(flight, now - flight.sent_at)
        if flight.cuts < self._cuts:
            return  # sent under another limit: says nothing of this one
        self._served = True
        self._own_pause = OWN_PAUSE
        if flight.number <= self._filled_by:  # else there was room all the while, and more room is no use
            self._grow()

    def pushed_back(self, flight: Flight, now: float, retry_after: float | None = None) -> None:
        """Halve the limit, once for all requests sent before that; send nothing for `retry_after` seconds."""
        self._land(flight)
        if retry_after is not None:
            self._pause(now, min(retry_after, LONGEST_PAUSE))
        if flight.cuts < self._cuts:
            return  # the episode that the limit was cut for
        if retry_after is None and self.limit == 1:
            self._pause(now, self._own_pause)
            self._own_pause = min(2 * self._own_pause, LONGEST_OWN_PAUSE)
        if self._served:  # else an outage goes on, and the limit from before it is the one to come back to
            self._fast_below = int(self.limit * FAST_AGAIN)
            frequent = self._quiet < 2 * PROBE_EVERY
            self._hold = min(max(2 * self._hold, self.limit), PROBE_EVERY) if frequent else 0
        self._quiet = 0
        self._cut(self.limit // 2)

    def failed(self, flight: Flight, now: float) -> None:
        """Make room and no more: what breaks says little of how much was asked."""
        self._land(flight)

    def _land(self, flight: Flight, latency: float | None = None) -> None:
        self._flying.remove(flight.number)
        if not self._latency.add(flight.number, latency):
            return
        used = self._latency.first <= self._filled_by
        advice = self._latency.advise(self.limit) if used else self.limit
        if advice < self.limit:
            self._cut(advice)
            self._fast_below = min(self._fast_below, advice)
            return
        if advice > self.limit:
            self._fast_below = max(self._fast_below, advice)
        self._latency.sample_after(self._sent)

    def _pause(self, now: float, seconds: float) -> None:
        self._paused_until = max(self._paused_until, now + seconds)

    def _cut(self, limit: int) -> None:
        self.limit = max(1, limit)
        self._cuts += 1
        self._served = False
        self._latency.sample_after(self._sent)

    def _grow(self) -> None:
        self._quiet += 1
        if self.limit == self._most:
            return
        if self.limit < self._fast_below:
            needed = 1  # one more for each answer: twice as many after a round
        else:
            needed = max(self.limit, self._hold if self._quiet < 2 * PROBE_EVERY else 0)
        self._steps_from += 1
        if self._steps_from >= needed:
            self.limit += 1
            self._steps_from = 0


class _Latency:
    """The mean latency of one sample after another, and what it says of the limit. In ln(seconds)."""

    def __init__(self) -> None:
        self._floor = math.inf
        self._tries = 0  # cuts in a row that it advised
        self._before = 0  # the limit before the first of these
        self._after_first = (0.0, 0.0)  # mean and ln(limit) after it
        self.sample_after(0)

    def sample_after(self, number: int) -> None:
        """Begin anew, with the requests sent after this one."""
        self.first = number + 1
        self._ended = self._counted = 0
        self._sum = 0.0

    def add(self, number: int, seconds: float | None) -> bool:
        """Count a request that ended, after so many seconds if with an answer; give whether the sample is whole."""
        if not self.first <= number < self.first + SAMPLE:
            return False
        self._ended += 1
        if seconds is not None:
            self._counted += 1
            self._sum += math.log(max(seconds, SHORTEST))
        return self._ended == SAMPLE

    def advise(self, limit: int) -> int:
        """What the limit should be, by the sample that is whole: less, as it is, or as it was before useless cuts."""
        if not self._counted:
            return limit
        mean = self._sum / self._counted
        self._floor = min(self._floor, mean)
        if mean <= self._floor + math.log(SLOW):
            self._tries = 0
            return limit
        if self._tries == TRIES:
            self._tries = 0
            mean_then, limit_then = self._after_first
            if mean_then - mean < RELIEF * (limit_then - math.log(limit)):
                self._floor = mean
                return max(limit, self._before)
        if self._tries == 0:
            self._before = limit
        elif self._tries == 1:
            self._after_first = (mean, math.log(limit))
        self._tries += 1
        return max(1, int(limit * GIVE_WAY))
