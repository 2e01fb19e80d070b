"""The HTTP transport against the testbed's server: what goes over the wire, what each status means, no key anywhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.cli.testbed import app
from reward_distiller.config import ChatModel, Sampling
from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.files import write_rows
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.endpoint import accept, check_environment, printable, store
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.http_client import Reply
from reward_distiller.teacher.parsing import parse_response, parse_score
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.testbed.language import World
from reward_distiller.testbed.server import serve

KEY = "sk-very-secret-0123456789"
TEXTS = World(0).prompts(30, 0, "train")


def questions(count=30, parse=parse_response):
    return [Question(text, [{"role": "user", "content": text}], parse) for text in TEXTS[:count]]


def ask(folder, base_url, count=30, parse=parse_response, **fields):
    model = ChatModel(**{"model": "teacher", "base_url": base_url, "concurrency": 8, **fields})
    with open_engine(folder / "ledger.sqlite", {}) as engine:
        engine.first_backoff = 0.01
        return engine.ask(model, "step", questions(count, parse))


def bytes_of(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@contextmanager
def recorder():
    """A server that keeps headers and bodies and answers each request with `7`."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, dict(self.headers), body))
            answer = json.dumps({"choices": [{"message": {"content": "7"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


# -- what is sent ---------------------------------------------------------------------------------


def test_the_wire_holds_all_that_the_config_says_and_no_sample_index(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setenv("MY_TEAM", "team-secret")
    with recorder() as (url, seen):
        ask(
            tmp_path,
            url + "/",
            count=1,
            model="some/model",
            api_key_env="MY_KEY",
            headers={"X-Title": "a title"},
            headers_env={"X-Team": "MY_TEAM"},
            sampling=Sampling(temperature=0.7, top_p=0.9, top_k=20, min_p=0.05, max_tokens=77),
            max_tokens_field="max_completion_tokens",
            chat_template_kwargs={"enable_thinking": False},
            extra_body={"seed": 3},
        )
    [(path, headers, body)] = seen
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Title"] == "a title"
    assert headers["X-Team"] == "team-secret"
    assert body == {
        "model": "some/model",
        "messages": [{"role": "user", "content": TEXTS[0]}],
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 20,
        "min_p": 0.05,
        "max_completion_tokens": 77,
        "chat_template_kwargs": {"enable_thinking": False},
        "seed": 3,
    }
    stored = bytes_of(tmp_path)
    assert b"some/model" in stored
    assert KEY.encode() not in stored
    assert b"team-secret" not in stored


def test_parameters_that_are_not_set_are_not_sent_and_no_key_means_no_header(tmp_path):
    with recorder() as (url, seen):
        ask(tmp_path, url, count=1)
    [(_, headers, body)] = seen
    assert set(body) == {"model", "messages", "temperature", "top_p", "max_tokens"}
    assert "Authorization" not in headers


def test_text_of_any_kind_arrives_as_it_was(tmp_path):
    text = 'ünï ☃ \U0001f600 \x00\x1b[31m "quoted" \\ \u2028 </s> ' + "x" * 1_000_000
    with recorder() as (url, seen), open_engine(tmp_path / "ledger.sqlite", {}) as engine:
        model = ChatModel(model="m", base_url=url)
        engine.ask(model, "s", [Question("q", [{"role": "user", "content": text}], parse_score)])
    assert seen[0][2]["messages"][0]["content"] == text


# -- keys -----------------------------------------------------------------------------------------


def test_a_rejected_key_is_named_by_its_variable_and_shown_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with serve(api_key="another") as server:
        with pytest.raises(EndpointError, match="MY_KEY") as caught:
            ask(tmp_path, server.base_url, api_key_env="MY_KEY")
        assert KEY not in str(caught.value)
        assert "401" in str(caught.value)
        with pytest.raises(EndpointError, match="api_key_env"):
            ask(tmp_path, server.base_url)
        assert server.written == 0
    assert KEY.encode() not in bytes_of(tmp_path)
    with serve(api_key=KEY) as server:
        assert all(isinstance(o, Answer) for o in ask(tmp_path, server.base_url, api_key_env="MY_KEY").values())
    assert KEY.encode() not in bytes_of(tmp_path)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_server_that_repeats_the_key_does_not_bring_it_into_our_messages(monkeypatch, status):
    monkeypatch.setenv("MY_KEY", KEY)
    model = ChatModel(model="m", base_url="http://here/v1", api_key_env="MY_KEY")
    response = Reply(status, {}, f"Incorrect API key provided: {KEY}".encode())
    with pytest.raises(Exception, match="Incorrect") as caught:
        accept(model, response)
    assert KEY not in str(caught.value)
    assert "MY_KEY" in str(caught.value)


@pytest.mark.parametrize("value", [f"{KEY}\n", f" {KEY}", f"{KEY}é", f"{KEY}\x00"])
def test_a_key_that_no_header_can_hold_is_a_config_error(tmp_path, monkeypatch, value):
    if "\x00" not in value:
        monkeypatch.setenv("MY_KEY", value)
    else:
        monkeypatch.setattr("os.environ", {"MY_KEY": value})
    for fields in ({"api_key_env": "MY_KEY"}, {"headers_env": {"X-Key": "MY_KEY"}}):
        with pytest.raises(ConfigError, match="MY_KEY") as caught:
            check_environment(ChatModel(model="m", base_url="http://here/v1", **fields))
        assert KEY not in str(caught.value)


def test_even_unchecked_such_a_key_reaches_no_message_and_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    with serve() as server, pytest.raises(EndpointError) as caught:
        ask(tmp_path, server.base_url, api_key_env="MY_KEY")
    assert KEY not in str(caught.value)
    assert KEY.encode() not in bytes_of(tmp_path)


def test_headers_and_proxies_of_the_config_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match="X-Title"):
        check_environment(ChatModel(model="m", base_url="http://here/v1", headers={"X-Title": "ünfit"}))
    with serve() as server:
        for proxy in ("me:password@proxy", "ftp://me:password@proxy", "http://me:password@proxy:x"):
            with pytest.raises(EndpointError, match="proxy") as caught:
                ask(tmp_path, server.base_url, count=1, proxy=proxy)
            assert "password" not in str(caught.value)


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    for fields in ({"api_key_env": "MY_KEY"}, {"headers_env": {"X-Key": "MY_KEY"}}):
        with pytest.raises(ConfigError, match="MY_KEY"):
            check_environment(ChatModel(model="m", base_url="http://here/v1", **fields))


# -- what can come back -----------------------------------------------------------------------------


def test_an_unknown_model_and_a_wrong_path_end_the_run(tmp_path):
    with serve() as server:
        with pytest.raises(EndpointError, match="gpt-9"):
            ask(tmp_path, server.base_url, model="gpt-9")
        with pytest.raises(EndpointError, match="base_url"):
            ask(tmp_path, server.base_url + "/v1")


@pytest.mark.parametrize("url", ["here/v1", "http://", "ftp://127.0.0.1/v1", "http://[::1/v1", ""])
def test_a_base_url_that_is_none_is_found_in_the_config(url):
    with pytest.raises(ValueError, match="not a URL"):
        ChatModel(model="teacher", base_url=url)


def test_a_refused_request_fails_alone(tmp_path):
    with serve() as server:
        outcomes = ask(tmp_path, server.base_url, count=2, extra_body={"testbed": "no object"})
    assert all(isinstance(o, Failed) and o.reason.startswith("HTTP 400") for o in outcomes.values())


@pytest.mark.parametrize("fault", ["429", "500", "reset", "hang"])
def test_transport_faults_are_retried_until_all_is_answered(tmp_path, fault):
    with serve() as server:
        expected = ask(tmp_path / "good", server.base_url)
    with serve(faults={fault: 0.5}, hang_seconds=1.5) as server:
        outcomes = ask(tmp_path / "bad", server.base_url, timeout=1.0 if fault == "hang" else 30.0)
        assert server.written == len(TEXTS)
        assert sum(server.asked.values()) > len(TEXTS)
    assert outcomes == expected
    assert all(isinstance(o, Answer) for o in outcomes.values())


@pytest.mark.parametrize("fault", ["truncated_json", "empty_choices", "html"])
def test_useless_bodies_are_asked_again_as_new_samples(tmp_path, fault):
    with serve() as server:
        expected = ask(tmp_path / "good", server.base_url)
    with serve(faults={fault: 0.5}) as server:
        assert ask(tmp_path / "bad", server.base_url) == expected
        assert server.written == sum(server.asked.values()) > len(TEXTS)


def test_a_login_page_is_quarantined_as_it_came(tmp_path):
    with serve(faults={"html": 1.0}) as server:
        outcomes = ask(tmp_path, server.base_url, count=3, max_asks=2)
        assert sum(server.asked.values()) == 6
    for outcome in outcomes.values():
        assert isinstance(outcome, Quarantined)
        assert "not a chat completion" in outcome.reason
        assert all("Please log in" in text for text in outcome.texts)


def test_half_characters_and_escapes_in_an_answer_can_be_stored(tmp_path):
    with serve(faults={"garbage": 1.0}) as server:
        outcomes = ask(tmp_path, server.base_url, count=1, max_asks=2, parse=parse_score)
    outcome = outcomes[TEXTS[0]]
    assert isinstance(outcome, Quarantined)
    assert outcome.texts == ("neither 7 nor ? nor <edited_response> \x1b[31m 8 8 8",) * 2
    balance = Balance("step", "pairs", 1)
    balance.lose_to(outcome, "record", "teacher")
    write_rows(tmp_path / "quarantine.jsonl", balance.quarantine)
    assert b"\x1b" not in (tmp_path / "quarantine.jsonl").read_bytes()


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"choices": null}', b'{"choices": [[]]}', b"[" * 100_000])
def test_no_completion(body):
    with pytest.raises(ValueError, match="not a chat completion"):
        read_completion(body)
    assert store(body).input_tokens is None


def test_a_refusal_is_told():
    body = b'{"choices": [{"message": {"content": null, "refusal": "I cannot"}, "finish_reason": "stop"}]}'
    with pytest.raises(ValueError, match="I cannot"):
        read_completion(body)


@pytest.mark.parametrize("usage", ["null", "7", "[]", '{"prompt_tokens": -1}', '{"prompt_tokens": 1e3}'])
def test_a_usage_that_makes_no_sense_is_not_known(usage):
    stored = store(f'{{"usage": {usage}}}'.encode())
    assert (stored.input_tokens, stored.output_tokens) == (None, None)


def test_terminal_escapes_are_shown_not_sent():
    assert printable("a\x1b[2J\nü☃") == "a\\x1b[2J\\nü☃"


# -- the server itself ------------------------------------------------------------------------------


def test_the_server_answers_in_openais_format_and_explains_what_is_wrong():
    good = {"model": "teacher", "messages": [{"role": "user", "content": TEXTS[0]}]}
    with serve(api_key=KEY) as server, httpx.Client(headers={"Authorization": f"Bearer {KEY}"}) as client:
        url = f"{server.base_url}/chat/completions"
        answer = client.post(url, json=good)
        assert answer.json()["choices"][0]["message"]["role"] == "assistant"
        assert answer.content == client.post(url, json=good).content
        models = client.get(f"{server.base_url}/models").json()["data"]
        assert {"teacher", "novice", "expert"} <= {m["id"] for m in models}
        for bad in ({}, [], {"model": "teacher"}, {**good, "messages": []}, {**good, "messages": ["hi"]}):
            assert client.post(url, json=bad).status_code == 400
        for bad_bytes in (b"", b"{", b"\xff", b"[" * 100_000, json.dumps(good)[:-1].encode()):
            assert client.post(url, content=bad_bytes).status_code == 400
        smuggled = b'{"model": "teacher", "messages": [{"role": "user", "content": "\\ud800"}], "x": NaN}'
        assert client.post(url, content=smuggled).status_code == 400
        assert client.post(url, content=iter([b"chunked"])).status_code == 400
        unknown = client.post(url, json={**good, "model": "gpt-9"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
        assert client.get(f"{server.base_url}/nothing").json()["error"]["type"] == "invalid_request_error"
        assert client.post(f"{server.base_url}/nothing", json=good).status_code == 404
        assert client.post(url, json=good, headers={"Authorization": "Bearer x"}).status_code == 401
        assert server.written == 2


def test_faults_are_drawn_from_the_request_and_stop_after_two_asks():
    rates = {"500": 0.5, "429": 0.4}
    sequences = []
    for _ in range(2):
        with serve(faults=rates) as server:
            sequences.append([[server.next_fault(text.encode()) for _ in range(6)] for text in TEXTS])
    assert sequences[0] == sequences[1]
    assert {fault for sequence in sequences[0] for fault in sequence[:2]} == {"500", "429", None}
    assert all(sequence[2:] == [None] * 4 for sequence in sequences[0])


def test_faults_and_ports_that_cannot_be():
    for faults in ({"flood": 0.1}, {"500": 1.5}, {"500": 0.6, "429": 0.6}, {"500": -0.1}):
        with pytest.raises(ConfigError), serve(faults=faults):
            pass
    with serve() as server, pytest.raises(ConfigError, match="port"), serve(server.server_address[1]):
        pass


def test_the_server_is_gone_after_its_block_even_with_a_request_hanging():
    with serve(faults={"hang": 1.0}, hang_seconds=600) as server:
        url = f"{server.base_url}/chat/completions"
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json={"model": "teacher", "messages": [{"role": "user", "content": "x"}]}, timeout=0.1)
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, json={}, timeout=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(number):
    program = "from reward_distiller.cli.testbed import app; app()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--fault", "500=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            url = child.stdout.readline().split()[-1]
            request = {"model": "teacher", "messages": [{"role": "user", "content": TEXTS[0]}]}
            statuses = [httpx.post(f"{url}/chat/completions", json=request).status_code for _ in range(3)]
            child.send_signal(number)
            assert child.wait(10) == 0
            assert child.stdout.read() == "stopped; answers written: 1\n"
        finally:
            child.kill()  # it ends with the test, whatever happens
    assert statuses == [500, 500, 200]


@pytest.mark.parametrize("option", ["429", "429=often", "flood=0.1", "=1"])
def test_the_command_names_a_fault_that_cannot_be(option):
    with pytest.raises(ConfigError, match="fault"):
        app(["serve", "--port", "0", "--fault", option], standalone_mode=False)
