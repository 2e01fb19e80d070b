"""A reward server as a scorer: both wire formats on a real model, a busy server, and servers that lie."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tiny

from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.evaluate.answers import NoAnswer, Rewards
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.recipes.judges import JudgeSettings
from reward_distiller.recipes.reward_endpoint import RewardEndpoint
from reward_distiller.recipes.scorers import ScorerSettings, open_scorer
from reward_distiller.records import Prompt

EXAMPLES = [
    Example(str(n), Prompt.from_text(f"question {n}"), ("a right answer", f"a wrong one {n}", "another"))
    for n in range(5)
]
Reply = tuple[int, dict[str, str], bytes]


def nothing() -> None:
    pass


@contextmanager
def server(reply: Callable[[str, dict[str, Any], dict[str, str]], Reply]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, content = reply(self.path, body, dict(self.headers))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chat = tiny.chat()
    network = build_network(tiny.tiny_lm(len(chat.tokenizer) + 1), chat, 0)
    folder = tmp_path_factory.mktemp("rm") / "model"
    save_reward_model(network, chat, folder, {})
    return folder


def settings(tmp_path: Path, **changes: Any) -> ScorerSettings:
    return ScorerSettings(ledger=tmp_path / "ledger.sqlite", judge=JudgeSettings(), **changes)


def test_a_model_and_a_server_of_it_give_the_same_rewards(model: Path, tmp_path: Path) -> None:
    rewards = RewardModel.from_pretrained(str(model))
    lock = threading.Lock()

    def reply(path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        assert headers["Authorization"] == "Bearer secret"
        with lock:
            if path.endswith("/v1/rewards"):
                made: Any = {"rewards": rewards.score(body["prompt"], body["responses"])}
            else:
                assert body["use_activation"] is False
                *messages, last = body["messages"]
                made = {"data": [{"probs": rewards.score(messages, [last["content"]])}]}
        return 200, {}, json.dumps(made).encode()

    with open_scorer(str(model), settings(tmp_path), parts=None) as scorer:  # type: ignore[arg-type]
        direct = scorer.answer(EXAMPLES, nothing)
    for answer, example in zip(direct, EXAMPLES, strict=True):
        assert isinstance(answer, Rewards)
        assert answer.values == pytest.approx(rewards.score(example.prompt.as_dicts(), example.responses), abs=1e-5)
    with server(reply) as url, pytest.MonkeyPatch.context() as environment:
        environment.setenv("REWARD_TOKEN", "secret")
        for path in ("/v1/rewards", "/classify"):
            own = settings(tmp_path, token_env="REWARD_TOKEN")
            with open_scorer(url + path, own, parts=None) as served:  # type: ignore[arg-type]
                assert "secret" not in json.dumps(served.identity)
                for answer, expected in zip(served.answer(EXAMPLES, nothing), direct, strict=True):
                    assert isinstance(answer, Rewards)
                    assert isinstance(expected, Rewards)
                    assert answer.values == pytest.approx(expected.values, abs=1e-5)


def test_what_is_too_long_for_the_model_has_no_answer(model: Path, tmp_path: Path) -> None:
    long = Example("long", Prompt.from_text("question"), ("word " * 200, "short"))
    with open_scorer(str(model), settings(tmp_path, max_length=100), parts=None) as scorer:  # type: ignore[arg-type]
        answers = scorer.answer([EXAMPLES[0], long], nothing)
    assert isinstance(answers[0], Rewards)
    assert answers[1] == NoAnswer("longer than max_length=100")


def test_a_busy_server_is_asked_again() -> None:
    seen: list[str] = []

    def reply(path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        seen.append(body["prompt"][0]["content"])
        if seen.count(seen[-1]) < 3:
            return 503, {"Retry-After": "0"}, b"busy"
        return 200, {}, json.dumps({"rewards": [1.0, 2.0, 3.0]}).encode()

    with server(reply) as url, RewardEndpoint(f"{url}/v1/rewards") as endpoint:
        assert endpoint.answer(EXAMPLES, nothing) == [Rewards((1.0, 2.0, 3.0))] * 5
    assert len(seen) == 15
    with pytest.raises(EndpointError, match="ConnectError"), RewardEndpoint(f"{url}/v1/rewards", patience=0) as gone:
        gone.answer(EXAMPLES, nothing)


@pytest.mark.parametrize(
    "lie",
    [
        b'{"rewards": [1, 2]}',
        b'{"rewards": [1, 2, NaN]}',
        b'{"rewards": [1, 2, "3"]}',
        b'{"rewards": [1, 2, true]}',
        b'{"reward": 1}',
        b"[1, 2, 3]",
        b"<html>",
    ],
)
def test_a_server_that_lies_is_an_error(lie: bytes) -> None:
    with (
        server(lambda *_: (200, {}, lie)) as url,
        RewardEndpoint(f"{url}/v1/rewards") as endpoint,
        pytest.raises(EndpointError, match=r"finite rewards were asked for|no JSON object"),
    ):
        endpoint.answer(EXAMPLES, nothing)


def test_what_cannot_be_a_scorer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REWARD_TOKEN", raising=False)
    for name, message in (
        ("http://127.0.0.1:1/score", "end it with /v1/rewards"),
        ("baseline:best", "no such baseline"),
    ):
        with pytest.raises(ConfigError, match=message), open_scorer(name, settings(tmp_path), parts=None):  # type: ignore[arg-type]
            pass
    with pytest.raises(ConfigError, match="REWARD_TOKEN is not set"):
        RewardEndpoint("http://127.0.0.1:1/v1/rewards", "REWARD_TOKEN")
    with (
        server(lambda *_: (401, {}, b"")) as url,
        RewardEndpoint(f"{url}/v1/rewards") as endpoint,
        pytest.raises(EndpointError, match="status 401"),
    ):
        endpoint.answer(EXAMPLES, nothing)
