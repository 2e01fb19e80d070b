"""Several endpoints of one model: which of them takes the next request, and which are left alone for a while.

The endpoint with the most room takes it. One that fails again and again is taken out, and tried again with a single
request, the probe, after a pause that grows. No clock and no I/O, as `concurrency.Concurrency`, which every endpoint
has. Knows nothing of what is asked.

For each request: `taken = take(now)`, send it to `taken.endpoint`, and hand it back exactly once, to `answered`,
`pushed_back` or `failed`, which mean what they do there. Where `take` gives None, wait for the next request to end,
or until `wake_at(now)`. After a failure, stop where `all_unreachable` says so, and where `out_since` is too long ago:
a request that waits to be taken uses up none of its attempts, and would wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from reward_distiller.teacher.concurrency import Concurrency, Flight

RUN = 5  # failures with no answer in between. A server that fails every fifth request by chance has such a run once in
# 3,000 requests; being wrong costs a short pause and the time of one probe.
FIRST_PAUSE = 0.5  # seconds before the first probe: a connection that broke, or a server's restart behind a proxy
LONGEST_PAUSE = 60.0  # seconds; a minute idle is little beside an outage that made the pause that long
FIRST_CONTACT = 3  # attempts at a server that never answered before it is called unreachable


class Taken(NamedTuple):
    """A request on its way to an endpoint."""

    endpoint: str
    flight: Flight
    probe: bool
    outs: int  # of the endpoint, then


@dataclass
class _Endpoint:
    name: str
    concurrency: Concurrency
    pause: float
    last_used: int = 0
    failures: int = 0  # in a row
    outs: int = 0  # how often it was taken out, or kept out by a probe
    out_since: float | None = None  # None: in
    try_at: float = 0.0
    probing: bool = False
    reached: bool = False

    def wake_at(self, now: float) -> float | None:
        wake = self.concurrency.wake_at(now)
        if wake is None or self.out_since is None:
            return wake
        return None if self.probing else max(wake, self.try_at)


class Pool:
    """`most` is how many requests each endpoint may have in flight, by its name (the caller's, such as a URL)."""

    def __init__(self, most: Mapping[str, int], first_pause: float = FIRST_PAUSE):
        if not most:
            raise ValueError("a pool without endpoints takes no request")
        self._endpoints = {name: _Endpoint(name, Concurrency(n), first_pause) for name, n in most.items()}
        self._first_pause = first_pause
        self._takes = 0

    def take(self, now: float) -> Taken | None:
        """Count a request as sent to the endpoint named in it; None where none may be sent now."""
        ready = [e for e in self._endpoints.values() if e.wake_at(now) == now]
        if not ready:
            return None
        # A probe that is due goes first, or an endpoint would stay out for as long as the others have room.
        best = max(ready, key=lambda e: (e.out_since is not None, e.concurrency.room, -e.last_used))
        self._takes += 1
        best.last_used = self._takes
        best.probing = best.out_since is not None
        return Taken(best.name, best.concurrency.sent(now), best.probing, best.outs)

    def wake_at(self, now: float) -> float | None:
        """From when `take` gives an endpoint if no request ends; None where only the end of one makes room."""
        times = [wake for e in self._endpoints.values() if (wake := e.wake_at(now)) is not None]
        return min(times, default=None)

    def answered(self, taken: Taken, now: float) -> None:
        endpoint = self._endpoints[taken.endpoint]
        endpoint.concurrency.answered(taken.flight, now)
        self._is_there(endpoint, taken)

    def pushed_back(self, taken: Taken, now: float, retry_after: float | None = None) -> None:
        endpoint = self._endpoints[taken.endpoint]
        endpoint.concurrency.pushed_back(taken.flight, now, retry_after)
        self._is_there(endpoint, taken)

    def failed(self, taken: Taken, now: float, *, reached: bool) -> None:
        """`reached`: whether the server said anything at all (HTTP 500), or never did (no connection, time-out)."""
        endpoint = self._endpoints[taken.endpoint]
        endpoint.concurrency.failed(taken.flight, now)
        endpoint.reached = endpoint.reached or reached
        if taken.outs < endpoint.outs:
            return  # sent before it was taken out: says nothing of now
        endpoint.failures += 1
        if taken.probe:
            endpoint.pause = min(2 * endpoint.pause, LONGEST_PAUSE)
        elif endpoint.reached and endpoint.failures < RUN:
            return  # one that never answered is out at once: its FIRST_CONTACT attempts are to be a pause apart
        endpoint.outs += 1
        endpoint.probing = False
        endpoint.try_at = now + endpoint.pause
        if endpoint.out_since is None:
            endpoint.out_since = now

    @property
    def all_unreachable(self) -> bool:
        """Whether no endpoint ever said anything, and each was tried FIRST_CONTACT times."""
        return all(not e.reached and e.outs >= FIRST_CONTACT for e in self._endpoints.values())

    @property
    def out_since(self) -> float | None:
        """Since when all endpoints are out; None while one is in."""
        since = [e.out_since for e in self._endpoints.values() if e.out_since is not None]
        return max(since) if len(since) == len(self._endpoints) else None

    def _is_there(self, endpoint: _Endpoint, taken: Taken) -> None:
        endpoint.reached = True
        if taken.outs < endpoint.outs:
            return  # a server that goes down may finish what it has, and take nothing new
        endpoint.failures = 0
        endpoint.out_since, endpoint.probing, endpoint.pause = None, False, self._first_pause
