"""The server as a process: it listens, and stops in order: on SIGTERM it finishes what it has, and takes no more."""

from __future__ import annotations

import socket
import time
from types import FrameType

import uvicorn

from reward_distiller.console import say
from reward_distiller.errors import ConfigError
from reward_distiller.serve.gate import Gate

WAITING_CONNECTIONS = 2048  # clients may open all theirs at once


class Server(uvicorn.Server):
    """Runs a gate. The first signal drains it: it takes no more work, and ends when none is left. A second ends it."""

    def __init__(self, gate: Gate, host: str, port: int, stop_seconds: float = 30.0):
        self.gate, self.stop_seconds = gate, stop_seconds
        self._stop_by: float | None = None
        config = uvicorn.Config(
            gate,
            host=host,
            port=port,
            access_log=False,
            log_level="warning",
            backlog=WAITING_CONNECTIONS,
            server_header=False,
            timeout_graceful_shutdown=5,
            lifespan="on",
        )
        super().__init__(config)

    @property
    def port(self) -> int:
        """Where it listens, once it does: the port that was found where 0 was asked for."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    def drain(self) -> None:
        self.gate.draining = True
        self._stop_by = time.monotonic() + self.stop_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.gate.draining:
            return super().handle_exit(sig, frame)
        self.drain()

    async def on_tick(self, counter: int) -> bool:
        if self._stop_by is not None and (not self.gate.under_way or time.monotonic() > self._stop_by):
            self.should_exit = True
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            say(f"serve: http://{self.config.host}:{self.port} (/docs says what it takes)")


def run(server: Server) -> None:
    """Serve until it is told to stop. Raises ConfigError where it cannot listen."""
    try:
        server.run()
    except SystemExit:  # how uvicorn ends where the port is taken; it has said so
        raise ConfigError(f"{server.config.host}:{server.config.port}: cannot listen there. Take another") from None
    say("serve: stopped")
