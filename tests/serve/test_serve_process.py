"""`reward-distiller serve` as a process: killed and started again under load, and told to stop under load."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from running import save_model

from reward_distiller.errors import ConfigError
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.rewards.client import RewardClient
from reward_distiller.serve.app import make_app
from reward_distiller.serve.server import Server, run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("rm") / "model")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(model: Path, port: int, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "reward_distiller", "serve", str(model), "--port", str(port), "--threads", "1"]
    return subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True, env={**os.environ, "TOKEN": "secret"})


def wait_for(port: int, server: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status() and None
        except httpx.TransportError:
            assert server.poll() is None
            assert time.monotonic() < end
            time.sleep(0.1)


def status_of(port: int, number: int) -> int | str:
    """Of one request that is not tried again. A stopping server closes connections that it has read nothing from."""
    body = {"prompt": f"question {number}", "responses": ["yes"]}
    try:
        return httpx.post(
            f"http://127.0.0.1:{port}/v1/rewards", json=body, headers={"Authorization": "Bearer secret"}
        ).status_code
    except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
        return "not taken"


def test_clients_lose_nothing_when_the_server_is_killed_and_when_it_is_told_to_stop(model, monkeypatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    offline = RewardModel.from_pretrained(str(model), device="cpu")
    expected = [offline.score(f"question {n}", ["yes", "no"]) for n in range(300)]
    port = free_port()
    first = start(model, port, "--token-env", "TOKEN")
    servers = [first]
    try:
        wait_for(port, first)
        client = RewardClient(f"http://127.0.0.1:{port}", "TOKEN", patience=120)
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(client.rewards, f"question {n}", ["yes", "no"]) for n in range(300)]
            while sum(future.done() for future in asked) < 60:
                time.sleep(0.005)
            first.kill()
            first.communicate()
            assert not all(future.done() for future in asked)  # it was killed under load
            second = start(model, port, "--token-env", "TOKEN")
            servers.append(second)
            for future, values in zip(asked, expected, strict=True):
                assert future.result(timeout=120) == pytest.approx(values, abs=1e-5)
            last = [pool.submit(status_of, port, n) for n in range(64)]
            while not any(future.done() for future in last):
                time.sleep(0.001)
            second.terminate()
            said = second.communicate(timeout=30)[1]
            found = Counter(future.result() for future in last)
        assert second.returncode == 0, said
        assert set(found) <= {200, 503, "not taken"}, found
        assert found[200]
        assert "secret" not in said
        assert "question" not in said
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_a_port_that_is_taken_is_an_error_that_says_so(model) -> None:
    gate = make_app(RewardModel.from_pretrained(str(model), device="cpu"), "tiny")
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="cannot listen there"):
        run(Server(gate, "127.0.0.1", taken.getsockname()[1]))
