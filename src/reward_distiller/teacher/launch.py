"""Local models: `vllm serve` as a child process, started when the first answer is wanted, ended with the run.

A run whose ledger has all the answers starts nothing. The server listens on loopback at a free port; where it
listens is not part of what is asked, so the ledger knows its answers again. Knows nothing of calls.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from reward_distiller.config import ChatModel
from reward_distiller.console import say
from reward_distiller.errors import EndpointError
from reward_distiller.teacher import leash
from reward_distiller.teacher.endpoint import HttpTransport

POLL = 0.5  # seconds between two looks at whether it is healthy
LAST_LINES = 15


@dataclass
class _Server:
    process: subprocess.Popen[bytes]
    base_url: str
    log: Path


@dataclass
class LocalServers:
    """The servers of one run, by model; their output goes to `folder`. `close` ends all of them."""

    folder: Path
    _running: dict[str, _Server] = field(default_factory=dict)
    _failed: dict[str, EndpointError] = field(default_factory=dict)
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def base_url(self, model: ChatModel) -> str:
        """Where the model is served; blocks until it is healthy. May be called from any thread.

        Raises EndpointError where it cannot be started.
        """
        with self._starting:  # one at a time: two that measure the free memory together take each other's
            if model.model in self._failed:
                raise self._failed[model.model]
            server = self._running.get(model.model)
            if server is None:
                server = self._running[model.model] = self._start(model)
                say(f"{model.model}: starting {model.launch}; {server.log}")
                try:
                    self._healthy(model, server)
                except EndpointError as error:
                    self._failed[model.model] = error  # who waits for it too hears the same
                    raise
            return server.base_url

    def _start(self, model: ChatModel) -> _Server:
        program = shutil.which(model.launch_command[0])
        if program is None:
            raise EndpointError(
                f"model {model.model!r}: launch: {model.launch} needs the program {model.launch_command[0]!r}, which "
                "is not on the PATH. Install vLLM in an environment of its own and name its program in launch_command"
            )
        port = _free_port()
        command = [program, *model.launch_command[1:], model.model, "--host", "127.0.0.1", "--port", str(port)]
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{model.launch}-{port}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, leash.__file__, *command, "--served-model-name", model.model, *model.launch_args],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is for us; answers in flight may still land
            )
        return _Server(process, f"http://127.0.0.1:{port}/v1", log)

    def _healthy(self, model: ChatModel, server: _Server) -> None:
        health = server.base_url.removesuffix("/v1") + "/health"
        with httpx.Client(trust_env=False) as client:
            for _ in range(int(model.launch_timeout / POLL) + 1):
                if server.process.poll() is not None:
                    raise EndpointError(
                        f"model {model.model!r}: {model.launch} ended as it started. {_said(server.log)}"
                    )
                try:
                    if client.get(health, timeout=POLL).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(POLL)
        raise EndpointError(
            f"model {model.model!r}: {model.launch} was not healthy within launch_timeout={model.launch_timeout:g} s. "
            + _said(server.log)
        )

    def close(self) -> None:
        """End all servers and wait for them."""
        for server in self._running.values():
            assert server.process.stdin is not None
            server.process.stdin.close()
        for server in self._running.values():
            try:
                server.process.wait(2 * leash.TO_STOP)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        self._running.clear()


class LocalTransport(HttpTransport):
    """Sends to a server of ours, started by the first request."""

    def __init__(self, servers: LocalServers):
        super().__init__()
        self._servers = servers
        self._places: dict[str, ChatModel] = {}

    async def send(self, model: ChatModel, request: dict[str, Any]) -> bytes:
        if model.model not in self._places:
            base_url = await asyncio.to_thread(self._servers.base_url, model)
            self._places[model.model] = model.model_copy(update={"base_url": base_url})
        return await super().send(self._places[model.model], request)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _said(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
    return f"The last lines of {log}:" + "".join(f"\n  {line}" for line in lines)
