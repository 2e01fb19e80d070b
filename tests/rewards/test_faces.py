"""Every face gives the reward that the model gives; the client asks again where that helps, and only there."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tiny

from reward_distiller.errors import ConfigError, DataError, EndpointError
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.rewards import client as client_file
from reward_distiller.rewards import openrlhf, verl
from reward_distiller.rewards.client import RewardClient
from reward_distiller.rewards.trl import http_reward, local_reward
from reward_distiller.serve.app import make_app, sigmoid
from reward_distiller.serve.server import Server

CHATS = [[{"role": "system", "content": "be brief"}, {"role": "user", "content": f"question {n}"}] for n in range(3)]
RESPONSES = ["yes", "no, never", "perhaps"]
ROWS = [(chat, response) for chat in CHATS for response in RESPONSES]  # as TRL has them: a prompt's together


@pytest.fixture(scope="module")
def model() -> RewardModel:
    chat = tiny.chat(pad_token="<pad>")
    return RewardModel(build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0).classifier, chat)


@pytest.fixture(scope="module")
def url(model):
    server = Server(make_app(model, "tiny", token="secret"), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.port}"
    server.drain()
    thread.join(20)


@pytest.fixture
def environment(url, monkeypatch):
    monkeypatch.setenv("REWARD_DISTILLER_URL", url + "/")
    monkeypatch.setenv("REWARD_DISTILLER_TOKEN", "secret")
    for module in (verl, openrlhf):
        module._client.cache_clear()
    yield
    for module in (verl, openrlhf):
        module._client.cache_clear()


def as_file(module):
    """As a trainer loads it: by its path, with no package around it."""
    spec = importlib.util.spec_from_file_location("reward_func", module.__file__)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_all_faces_give_the_same_reward(model, url, environment) -> None:
    offline = [model.score(chat, [response])[0] for chat, response in ROWS]
    same = pytest.approx(offline, abs=1e-5)
    assert max(offline) - min(offline) > 0.01  # or any face would do
    prompts = [chat for chat, _ in ROWS]
    completions = [[{"role": "assistant", "content": response}] for _, response in ROWS]
    local = local_reward(model, name="mine")
    assert local(prompts=prompts, completions=completions, trainer_state=None) == same
    assert local.__name__ == "mine"
    for path in ("", "/v1/rewards", "/classify"):
        served = http_reward(url + path, token_env="REWARD_DISTILLER_TOKEN")
        assert inspect.iscoroutinefunction(served)  # how TRL tells
        found = asyncio.run(served(prompts=prompts, completions=completions, completion_ids=[[1]] * 9))
        assert found == same
    score = as_file(verl).compute_score
    assert [
        score("any", response, None, extra_info={"prompt": np.array(chat, dtype=object)}, more=1)
        for chat, response in ROWS
    ] == same
    awaited = asyncio.run(verl.compute_score_async("any", RESPONSES[0], extra_info={"prompt": CHATS[0]}))
    assert awaited == pytest.approx(offline[0], abs=1e-5)
    queries = [
        model.chat.tokenizer.apply_chat_template([*c, {"role": "assistant", "content": r}], tokenize=False).rstrip("\n")
        for c, r in ROWS
    ]
    answer = as_file(openrlhf).reward_func(queries, ["p"] * 9, ["l"] * 9, experience=None)
    assert answer["rewards"].tolist() == same
    assert answer["scores"].tolist() == pytest.approx([sigmoid(r) for r in offline], abs=1e-5)
    assert answer["extra_logs"] == {}


def test_trl_s_texts_are_user_s_turns_and_a_prompt_s_completions_one_request(model, monkeypatch) -> None:
    asked = []
    score = model.score_rows
    expected = [model.score("a", ["x", "y"]), model.score("b", ["x"]), model.score("a", ["z"])]
    monkeypatch.setattr(model, "score_rows", lambda rows: asked.append(rows) or score(rows))
    found = local_reward(model)(prompts=["a", "a", "b", "a"], completions=["x", "y", "x", "z"])
    assert found == pytest.approx([v for values in expected for v in values], abs=1e-5)
    assert [len(responses) for _, responses in asked[0]] == [2, 1, 1]


@pytest.mark.parametrize("completion", [None, [], [{"role": "user", "content": "x"}], [{"role": "assistant"}], 3])
def test_trl_s_completions_that_are_none_are_named(model, completion) -> None:
    with pytest.raises(DataError, match="row 2"):
        local_reward(model)(prompts=["a", "a"], completions=["x", completion])


@pytest.mark.parametrize("extra", [None, {}, {"prompt": None}, {"prompt": []}, {"prompt": ["a"]}, {"prompt": 1}])
def test_verl_without_the_prompt_is_told_where_to_put_it(environment, extra) -> None:
    with pytest.raises(DataError, match=r"extra_info\.prompt"):
        verl.compute_score("any", "x", None, extra)


def test_without_a_server_s_url_or_token_nothing_is_asked(monkeypatch) -> None:
    monkeypatch.delenv("REWARD_DISTILLER_URL", raising=False)
    with pytest.raises(ConfigError, match="REWARD_DISTILLER_URL"):
        RewardClient.from_environment()
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_TOKEN"):
        RewardClient("http://127.0.0.1:1", "NO_SUCH_TOKEN")
    for wrong in ("localhost:8000", "", "ftp://x"):
        with pytest.raises(ConfigError, match="not a URL"):
            RewardClient(wrong)


@contextmanager
def scripted(*replies):
    """A server that gives these replies (status, headers, body) in turn, the last one for ever. None: it hangs up."""
    left, times = list(replies), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            times.append(time.monotonic())
            reply = left.pop(0) if len(left) > 1 else left[0]
            if reply is None:
                return
            status, headers, body = reply
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", times
    finally:
        http.shutdown()
        http.server_close()


GOOD = (200, {}, {"rewards": [1.5]})
BUSY = (503, {"Retry-After": "0.3"}, {})
ASK = [("x", ["a"])]


def both(client):
    """The client's two ways of asking."""
    return [lambda: [client.rewards(*ASK[0])], lambda: asyncio.run(client.rewards_of_rows(ASK))]


@pytest.mark.parametrize("way", [0, 1])
def test_a_server_that_is_busy_or_hangs_up_is_asked_again_when_it_says(way) -> None:
    with scripted(BUSY, None, (500, {"Retry-After": "0"}, {}), GOOD) as (url, times):
        assert both(RewardClient(url))[way]() == [[1.5]]
    assert len(times) == 4
    assert times[1] - times[0] >= 0.3


@pytest.mark.parametrize("way", [0, 1])
def test_what_asking_again_cannot_mend_is_an_error_at_once(way) -> None:
    refusal = (422, {}, {"error": {"message": "too long"}})
    for reply, says, tries in (
        (refusal, "too long", 1),
        ((500, {"Retry-After": "0"}, {}), "status 500", client_file.FAILED_TRIES),
        ((200, {}, {"rewards": [1.0, 2.0]}), "1 finite rewards", 1),
        ((200, {}, {"rewards": [True]}), "1 finite rewards", 1),
        ((200, {}, [1.0]), "no JSON object", 1),
    ):
        with scripted(reply) as (url, times), pytest.raises(EndpointError, match=says):
            both(RewardClient(url))[way]()
        assert len(times) == tries


def test_patience_ends() -> None:
    with scripted(BUSY) as (url, times), pytest.raises(EndpointError, match="status 503"):
        RewardClient(url, patience=0.7).rewards("x", ["a"])
    assert 2 <= len(times) <= 3


def test_waits_grow_and_are_never_the_same() -> None:
    tries = [client_file._Tries(1e9) for _ in range(20)]
    first, *_, last = ([t.next(None) for t in tries] for _ in range(12))
    assert len(set(first)) == 20
    assert max(first) < min(last) <= client_file.LONGEST_WAIT
    assert 30 <= tries[0].next("30") <= 45
    assert tries[0].next("1e9") == client_file.LONGEST_WAIT
    assert tries[0].next("soon") < 30


def test_trl_s_own_trainer_gets_the_model_s_rewards_from_both_faces(model, url, environment, tmp_path) -> None:
    """One step of GRPO on a tiny policy: TRL logs a mean for each face, and both are the same."""
    trl = pytest.importorskip("trl", reason="the extra rl is not installed")
    from datasets import Dataset

    tokenizer = tiny.byte_tokenizer(pad_token="<pad>", eos_token="<eos>")
    settings = trl.GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=4,
        num_generations=2,
        max_completion_length=4,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    faces = [http_reward(url, token_env="REWARD_DISTILLER_TOKEN", name="served"), local_reward(model, name="local")]
    prompts = Dataset.from_list([{"prompt": chat} for chat in CHATS])
    trainer = trl.GRPOTrainer(
        tiny.tiny_lm(len(tokenizer)), faces, args=settings, train_dataset=prompts, processing_class=tokenizer
    )
    trainer.train()
    row = next(row for row in trainer.state.log_history if "rewards/served/mean" in row)
    assert row["rewards/served/mean"] == pytest.approx(row["rewards/local/mean"], abs=1e-5)
    assert row["rewards/served/std"] > 0
