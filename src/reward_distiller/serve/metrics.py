"""What Prometheus is told. Labels come from fixed sets: no text, no token and no path that a client made up."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

PREFIX = "reward_distiller_"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SIZES = tuple(2**power for power in range(11))

__all__ = ["CONTENT_TYPE", "Metrics"]


class Metrics:
    """One server's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.requests = Counter(PREFIX + "requests", "Requests answered", ["route", "status"], registry=own)
        self.seconds = Histogram(
            PREFIX + "request_seconds", "From a request's head to its answer", ["route"], buckets=SECONDS, registry=own
        )
        self.batch = Histogram(PREFIX + "batch_responses", "Responses scored together", buckets=SIZES, registry=own)
        self.tokens = Counter(PREFIX + "tokens", "Tokens of scored responses, each with its prompt", registry=own)
        self.left = Counter(PREFIX + "clients_left", "Requests whose client left before the answer", registry=own)
        self._waiting = Gauge(PREFIX + "queue_responses", "Responses admitted and not yet answered", registry=own)

    def watch_queue(self, depth: Callable[[], float]) -> None:
        self._waiting.set_function(depth)

    def text(self) -> bytes:
        return generate_latest(self.registry)
