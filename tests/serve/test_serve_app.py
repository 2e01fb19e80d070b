"""The server over HTTP: each wire format gives the offline reward; what is wrong is refused, and others go on."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import tiny
from running import CHAT, PROMPT, RESPONSES, running, save_model

from reward_distiller.model.chat import PAD
from reward_distiller.model.critiques import CritiqueNeed
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.serve.app import sigmoid
from reward_distiller.serve.core import Limits

NEEDS = CritiqueNeed("teacher", "what is wrong with it?")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> RewardModel:
    return RewardModel.from_pretrained(str(save_model(tmp_path_factory.mktemp("rm") / "model")), device="cpu")


@pytest.fixture(scope="module")
def url(model):
    with running(model, Limits(responses=8, body_bytes=2**20), token="secret") as (url, _):
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer secret"}) as client:
        yield client


def rewards(client, prompt=PROMPT, responses=RESPONSES) -> list[float]:
    answer = client.post("/v1/rewards", json={"prompt": prompt, "responses": responses})
    assert answer.status_code == 200, answer.text
    return answer.json()["rewards"]


def rendered(model, response, prompt=CHAT) -> str:
    turns = [*prompt, {"role": "assistant", "content": response}]
    return model.chat.tokenizer.apply_chat_template(turns, tokenize=False)


def test_every_format_gives_the_offline_reward(model, client) -> None:
    offline = model.score(CHAT, RESPONSES)
    assert rewards(client, CHAT) == pytest.approx(offline, abs=1e-5)
    assert rewards(client) == pytest.approx(model.score(PROMPT, RESPONSES), abs=1e-5)
    for response, expected in zip(RESPONSES, offline, strict=True):
        chat = [*CHAT, {"role": "assistant", "content": response}]
        raw = client.post("/classify", json={"messages": chat, "use_activation": False, "model": "tiny"}).json()
        assert raw["data"][0]["probs"][-1] == pytest.approx(expected, abs=1e-5)
        assert raw["data"][0]["label"] == "reward"
        assert raw["usage"]["prompt_tokens"] == len(model.chat.encode(CHAT, response).ids)
        squashed = client.post("/classify", json={"messages": chat}).json()
        assert squashed["data"][0]["probs"] == pytest.approx([1 / (1 + math.exp(-expected))], abs=1e-5)
    texts = [rendered(model, response) for response in RESPONSES]
    for given in (texts, [list(model.chat.encode(CHAT, r).ids) for r in RESPONSES]):
        answer = client.post("/classify", json={"input": given, "use_activation": False}).json()
        assert [item["index"] for item in answer["data"]] == [0, 1, 2, 3]
        assert [item["probs"][0] for item in answer["data"]] == pytest.approx(offline, abs=1e-5)
    answer = client.post("/get_reward", json={"query": texts, "prompts": [PROMPT] * 4, "labels": [None] * 4}).json()
    assert answer["rewards"] == pytest.approx(offline, abs=1e-5)
    assert answer["scores"] == pytest.approx([1 / (1 + math.exp(-r)) for r in offline], abs=1e-5)
    assert answer["extra_logs"] == {}


def test_one_text_or_one_list_of_ids_is_one_input(model, client) -> None:
    expected = pytest.approx(model.score(CHAT, ["yes"]), abs=1e-5)
    for given in (rendered(model, "yes"), list(model.chat.encode(CHAT, "yes").ids)):
        answer = client.post("/classify", json={"input": given, "use_activation": False}).json()
        assert [item["probs"][0] for item in answer["data"]] == expected


def test_a_sample_is_closed_as_the_template_closes_it(model, client) -> None:
    """A policy stops at its end token, or is cut off, or comes padded: the reward stands at the template's own end."""
    whole = rendered(model, "yes <")
    cut = whole.removesuffix("<|im_end|>\n")
    assert cut != whole
    queries = [whole, whole.removesuffix("\n"), cut, PAD + whole.removesuffix("\n") + PAD * 2]
    found = client.post("/get_reward", json={"query": queries}).json()["rewards"]
    assert found == pytest.approx(model.score(CHAT, ["yes <"]) * 4, abs=1e-5)


def test_a_chat_in_another_template_gets_no_reward(client) -> None:
    answer = client.post("/get_reward", json={"query": ["[user] hello [assistant] hi"]})
    assert answer.status_code == 422
    assert "own template" in answer.json()["error"]["message"]


DEEP = "[" * 100_000 + "]" * 100_000
WRONG = [
    ("/v1/rewards", b'{"prompt": "x", "responses": [', 400, "JSON"),
    ("/v1/rewards", b"\xff\xfe", 400, ""),
    ("/v1/rewards", DEEP.encode(), 400, ""),
    ("/v1/rewards", b'{"prompt": "x", "responses": [NaN]}', 422, "responses.0"),
    ("/v1/rewards", b'{"prompt": "x", "responses": [Infinity]}', 422, "responses.0"),
    ("/v1/rewards", b'{"prompt": "x", "responses": "text"}', 422, "responses"),
    ("/v1/rewards", b'{"prompt": "x", "responses": [1]}', 422, "responses.0"),
    ("/v1/rewards", b'{"prompt": {"a": 1}, "responses": ["a"]}', 422, "prompt"),
    ("/v1/rewards", b'{"prompt": "x", "responses": ["a"], "surprise": 1}', 422, "surprise"),
    ("/v1/rewards", b'{"prompt": "x", "responses": ["\\ud800"]}', 422, "responses.0"),
    ("/v1/rewards", b'{"prompt": [], "responses": ["a"]}', 422, "user's turn"),
    ("/v1/rewards", b'{"prompt": [{"role": "king", "content": "x"}], "responses": ["a"]}', 422, "role"),
    ("/v1/rewards", b'{"prompt": "x", "responses": ["a"], "critiques": ["bad"]}', 422, "reads no critiques"),
    ("/v1/rewards", json.dumps({"prompt": "x", "responses": ["a"] * 9}).encode(), 422, "9 responses"),
    ("/v1/rewards", json.dumps({"prompt": "x" * 600, "responses": ["a"]}).encode(), 422, "max_length=512"),
    ("/v1/rewards", b"", 422, ""),
    ("/classify", b"{}", 422, "either"),
    ("/classify", b'{"input": "a", "messages": []}', 422, "either"),
    ("/classify", b'{"messages": [{"role": "user", "content": "x"}]}', 422, "assistant"),
    ("/classify", b'{"input": "a", "truncate_prompt_tokens": 5}', 422, "truncate_prompt_tokens"),
    ("/classify", b'{"input": "a", "use_activation": "no"}', 422, "use_activation"),
    ("/classify", b'{"input": "a", "model": "other"}', 404, "model"),
    ("/classify", b'{"input": ""}', 422, "empty"),
    ("/classify", b'{"input": [[1, 99999]]}', 422, "token id"),
    ("/classify", b'{"input": [[1, -1]]}', 422, "token id"),
    ("/get_reward", b'{"query": "a"}', 422, "query"),
    ("/get_reward", b'{"query": ["a"], "labels": [1, 2]}', 422, "labels"),
    ("/nowhere", b"{}", 404, ""),
]


@pytest.mark.parametrize(("route", "body", "status", "says"), WRONG)
def test_what_is_wrong_is_refused_and_the_server_goes_on(model, client, route, body, status, says) -> None:
    answer = client.post(route, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert says in answer.json()["error"]["message"]
    assert rewards(client) == pytest.approx(model.score(PROMPT, RESPONSES), abs=1e-5)


def test_nothing_at_all_is_a_list_of_nothing(client) -> None:
    assert rewards(client, responses=[]) == []
    assert client.post("/get_reward", json={"query": []}).json()["rewards"] == []
    assert client.post("/classify", json={"input": []}).json()["data"] == []


@pytest.mark.parametrize("token", ["Bearer wrong", "Bearer secret2", "Basic secret", "secret", "Bearer", ""])
def test_without_the_token_only_health_metrics_and_docs_are_open(url, token) -> None:
    headers = {"Authorization": token}
    for route in ("/v1/rewards", "/classify", "/get_reward"):
        answer = httpx.post(url + route, json={"prompt": "x", "responses": []}, headers=headers)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    for route in ("/health", "/metrics", "/docs", "/openapi.json"):
        assert httpx.get(url + route).status_code == 200


def test_a_body_too_large_is_refused_whether_it_says_so_or_not(model, client) -> None:
    body = json.dumps({"prompt": "x" * 2_000_000, "responses": []}).encode()
    huge = {"Content-Type": "application/json"}
    assert client.post("/v1/rewards", content=body, headers=huge).status_code == 413
    chunks = (body[at : at + 50_000] for at in range(0, len(body), 50_000))  # of unknown length
    assert client.post("/v1/rewards", content=chunks, headers=huge).status_code == 413
    with httpx.Client(base_url=client.base_url) as stranger:
        assert stranger.post("/v1/rewards", content=body).status_code == 401
    assert client.post("/v1/rewards", content=b"x" * 20 * 2**20).status_code == 413
    assert rewards(client) == pytest.approx(model.score(PROMPT, RESPONSES), abs=1e-5)


def test_the_page_about_the_interface_names_every_route(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/rewards", "/classify", "/get_reward", "/health", "/metrics"} <= set(paths)
    assert "RewardsRequest" in json.dumps(paths["/v1/rewards"])


def test_metrics_count_and_hold_no_text(model) -> None:
    with running(model, token="secret") as (url, _), httpx.Client(base_url=url) as client:
        client.headers["Authorization"] = "Bearer secret"
        rewards(client, "of pears", ["a", "b"])
        client.post("/v1/rewards", json={"prompt": 1, "responses": []})
        client.post("/pears", json={})
        text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['reward_distiller_requests_total{route="/v1/rewards",status="200"}'] == "1.0"
    assert lines['reward_distiller_requests_total{route="/v1/rewards",status="422"}'] == "1.0"
    assert lines['reward_distiller_requests_total{route="other",status="404"}'] == "1.0"
    read = sum(len(model.chat.encode([{"role": "user", "content": "of pears"}], r)) for r in "ab")
    assert float(lines["reward_distiller_tokens_total"]) == read
    assert lines["reward_distiller_queue_responses"] == "0.0"
    assert lines["reward_distiller_batch_responses_sum"] == "2.0"
    assert lines['reward_distiller_request_seconds_count{route="/v1/rewards"}'] == "2.0"
    assert "pears" not in text
    assert "secret" not in text


def test_the_log_holds_no_text_and_no_token(model, capfd, monkeypatch) -> None:
    def broken(*_):
        raise RuntimeError("could not read pears")

    monkeypatch.setattr(model, "score_encoded", broken)
    with running(model, token="secret") as (url, _):
        asked = {"json": {"prompt": "pears", "responses": ["pears"]}, "headers": {"Authorization": "Bearer secret"}}
        assert httpx.post(f"{url}/v1/rewards", **asked).status_code == 500
    said = "".join(capfd.readouterr())
    assert "scoring failed with RuntimeError" in said
    assert "pears" not in said
    assert "secret" not in said


class Held:
    """Holds a model's scoring until it is let go, to have things wait."""

    def __init__(self, model, monkeypatch):
        self.batches, self.free, self.model = [], threading.Event(), model
        self.score = model.score_encoded
        monkeypatch.setattr(model, "score_encoded", self.wait)

    def wait(self, sequences, *advance):
        self.batches.append(len(sequences))
        assert self.free.wait(20)
        return self.score(sequences, *advance)


def until(condition, seconds=10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def waiting(url) -> float:
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("reward_distiller_queue_responses "))


def test_what_waits_is_scored_together_and_a_full_line_says_when_to_come_again(model, monkeypatch) -> None:
    held = Held(model, monkeypatch)
    with running(model, Limits(responses=2, queue=7)) as (url, _), ThreadPoolExecutor(8) as pool:
        body = {"prompt": "x", "responses": ["a"]}
        first = pool.submit(httpx.post, f"{url}/v1/rewards", json=body)
        until(lambda: held.batches)
        six = [
            pool.submit(httpx.post, f"{url}/v1/rewards", json={"prompt": f"x{n}", "responses": ["a"]}) for n in range(6)
        ]
        until(lambda: waiting(url) == 7)
        full = httpx.post(f"{url}/v1/rewards", json=body)
        assert full.status_code == 503
        assert int(full.headers["Retry-After"]) >= 1
        assert httpx.get(f"{url}/health").status_code == 200  # scoring does not hold up the event loop
        time.sleep(0.2)  # until all six are tokenised
        held.free.set()
        assert [answer.result().status_code for answer in [first, *six]] == [200] * 7
        expected = [held.model.score(f"x{n}", ["a"])[0] for n in range(6)]
        assert [a.result().json()["rewards"][0] for a in six] == pytest.approx(expected, abs=1e-5)
        assert held.batches[:2] == [1, 6]


def test_a_batch_is_cut_by_tokens(model, monkeypatch) -> None:
    held = Held(model, monkeypatch)
    tokens = len(model.chat.encode([{"role": "user", "content": "x0"}], "a"))
    with running(model, Limits(batch_tokens=2 * tokens)) as (url, _), ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(httpx.post, f"{url}/v1/rewards", json={"prompt": f"x{n}", "responses": ["a"]}) for n in range(5)
        ]
        until(lambda: waiting(url) == 5)
        time.sleep(0.2)
        held.free.set()
        assert [answer.result().status_code for answer in asked] == [200] * 5
        assert sum(held.batches) == 5
        assert max(held.batches) == 2


def test_one_request_that_cannot_be_scored_does_not_fail_its_company(model, monkeypatch) -> None:
    score, free = model.score_encoded, threading.Event()
    bad = model.chat.encode([{"role": "user", "content": "bad"}], "a").ids

    def picky(sequences):
        assert free.wait(20)
        if any(s.ids == bad for s in sequences):
            raise RuntimeError("out of memory")
        return score(sequences)

    monkeypatch.setattr(model, "score_encoded", picky)
    with running(model) as (url, _), ThreadPoolExecutor(8) as pool:
        names = ["one", "two", "bad", "three"]
        asked = [
            pool.submit(httpx.post, f"{url}/v1/rewards", json={"prompt": n, "responses": ["a"]}) for n in ["x", *names]
        ]
        until(lambda: waiting(url) == 5)
        time.sleep(0.2)
        free.set()
        assert [a.result().status_code for a in asked] == [200, 200, 200, 500, 200]


def test_a_reward_that_is_no_number_is_an_error_of_its_request_alone(model, monkeypatch) -> None:
    monkeypatch.setattr(model, "score_encoded", lambda sequences: [math.nan] * len(sequences))
    with running(model) as (url, _):
        answer = httpx.post(f"{url}/v1/rewards", json={"prompt": "x", "responses": ["a"]})
    assert answer.status_code == 500
    assert "not finite" in answer.text


def test_a_template_that_refuses_a_conversation_is_one_client_s_error() -> None:
    template = tiny.CHATML + "{% if messages[0].content == 'no' %}{{ raise_exception('no such talk') }}{% endif %}"
    chat = tiny.chat(template, pad_token="<pad>")
    model = RewardModel(build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0).classifier, chat)
    with running(model) as (url, _), httpx.Client(base_url=url) as client:
        assert client.post("/v1/rewards", json={"prompt": "no", "responses": ["a"]}).status_code == 422
        assert len(rewards(client)) == 4


def test_a_client_that_leaves_frees_its_place(model, monkeypatch) -> None:
    held = Held(model, monkeypatch)
    with running(model, Limits(responses=2, queue=2)) as (url, server), ThreadPoolExecutor(2) as pool:
        first = pool.submit(httpx.post, f"{url}/v1/rewards", json={"prompt": "x", "responses": ["a"]})
        until(lambda: held.batches)
        body = json.dumps({"prompt": "gone", "responses": ["a"]}).encode()
        head = f"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        with socket.create_connection(("127.0.0.1", server.port)) as leaving:
            leaving.sendall(head.encode() + b"\r\n\r\n" + body)
            until(lambda: waiting(url) == 2)
        until(lambda: waiting(url) == 1)
        stays = pool.submit(httpx.post, f"{url}/v1/rewards", json={"prompt": "stays", "responses": ["a"]})
        until(lambda: waiting(url) == 2)
        held.free.set()
        assert first.result().status_code == stays.result().status_code == 200
        assert held.batches == [1, 1]  # the one who left was not scored


def test_a_server_that_stops_finishes_what_it_has_and_refuses_more(model, monkeypatch) -> None:
    held = Held(model, monkeypatch)
    with running(model) as (url, server), ThreadPoolExecutor(1) as pool:
        last = pool.submit(httpx.post, f"{url}/v1/rewards", json={"prompt": "x", "responses": ["a"]})
        until(lambda: held.batches)
        server.drain()
        late = httpx.post(f"{url}/v1/rewards", json={"prompt": "x", "responses": ["a"]})
        assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
        assert httpx.get(f"{url}/health").status_code == 503
        held.free.set()
        assert last.result().json()["rewards"] == pytest.approx(held.model.score("x", ["a"]), abs=1e-5)


def test_a_model_that_reads_critiques_is_given_them_or_says_so(model, monkeypatch) -> None:
    monkeypatch.setattr(model, "need", NEEDS)
    with running(model) as (url, _), httpx.Client(base_url=url) as client:
        body = {"prompt": PROMPT, "responses": ["a", "b"]}
        without = client.post("/v1/rewards", json=body)
        assert without.status_code == 422
        assert "critiques" in without.text
        answer = client.post("/v1/rewards", json={**body, "critiques": ["good", "bad"]}).json()
        assert answer["rewards"] == pytest.approx(model.score(PROMPT, ["a", "b"], ["good", "bad"]), abs=1e-5)
        assert client.post("/v1/rewards", json={**body, "critiques": ["good"]}).status_code == 422
        assert client.post("/get_reward", json={"query": ["x"]}).status_code == 422
        chat = [*CHAT, {"role": "assistant", "content": "a"}]
        assert client.post("/classify", json={"messages": chat}).status_code == 422


def test_the_sigmoid_of_any_reward_is_a_number() -> None:
    assert [sigmoid(r) for r in (-2000.0, 0.0, 2000.0)] == [0.0, 0.5, 1.0]
