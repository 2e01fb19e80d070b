"""The testbed's server on the wire: each fault as real endpoints have it, strict HTTP, and many connections at once."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import closing

import httpx
import pytest
from helpers import scoring_question
from hypothesis import given
from hypothesis import strategies as st

from reward_distiller.construct.rewrite import Change, rewriting_question
from reward_distiller.records import Prompt
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.parsing import parse_pair_scores, parse_rewriting
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Unparsable
from reward_distiller.testbed.faults import FAULTS, FAULTY_ASKS, GARBAGE, HUGE, draw_fault
from reward_distiller.testbed.language import World
from reward_distiller.testbed.models import reply
from reward_distiller.testbed.server import serve
from reward_distiller.testbed.wire import LARGEST_BODY, LARGEST_HEAD, Malformed, read_request

TEMPLATES = Templates()
SLOW = 60.0  # seconds: what a starved machine may take, and still far from what the tests tell apart
TEXTS = World(0).prompts(40, 0, "train")
SCORING = scoring_question(Prompt.from_text(TEXTS[0]), "plum .", "fig .")
REWRITING = rewriting_question(Prompt.from_text(TEXTS[0]), "plum .", Change("worse", ("safety",)), TEMPLATES)


def request(messages) -> dict:
    return {"model": "teacher", "messages": messages, "testbed": {"garble": 0.0}}


GOOD = request(SCORING.messages)
ANSWER = reply(GOOD)


def on_the_wire(body: dict) -> bytes:
    raw = json.dumps(body).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)


def connect(server) -> socket.socket:
    found = socket.create_connection(server.server_address)
    found.settimeout(SLOW)
    return found


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One answer, whole."""
    stream = connection.makefile("rb", buffering=0)
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().rstrip(b"\r\n"):
        name, _, value = line.decode().partition(": ")
        headers[name] = value
    body = b""
    while len(body) < int(headers["Content-Length"]):
        body += stream.read(int(headers["Content-Length"]) - len(body))
    return status, headers, body


def post(server, body: dict) -> httpx.Response:
    return httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=SLOW)


# -- faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_hits_the_first_two_asks_and_what_is_written_is_counted(fault):
    """And a fault in the body is a whole answer: a real server would bill it."""
    body = request(REWRITING.messages)
    right = reply(body)
    with serve(faults={fault: 1.0}, hang_seconds=0.2) as server:
        for ask in range(FAULTY_ASKS):
            try:
                answer = post(server, body)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                assert fault in ("reset", "hang")
                answer = None
            billed = answer is not None and answer.status_code == 200
            assert server.written == (ask + 1 if billed else 0)
            assert billed == (fault not in ("429", "429_bare", "500", "503", "reset", "hang"))
            assert answer is None or (answer.content == right) == (fault == "wrong_content_type")
        before = server.written
        assert post(server, body).content == right
        assert server.written == before + 1


@pytest.mark.parametrize(("fault", "status", "after"), [("429", 429, "0"), ("429_bare", 429, None), ("503", 503, None)])
def test_a_server_that_wants_to_be_asked_later(fault, status, after):
    with serve(faults={fault: 1.0}) as server:
        answer = post(server, GOOD)
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, after)
    assert answer.json()["error"]["message"]


def faulty(fault: str, body: dict = GOOD) -> httpx.Response:
    with serve(faults={fault: 1.0}) as server:
        return post(server, body)


def test_silence_lasts_as_long_as_was_said_and_the_connection_ends():
    with serve(faults={"hang": 1.0}, hang_seconds=0.3) as server, closing(connect(server)) as connection:
        start = time.monotonic()
        connection.sendall(on_the_wire(GOOD))
        assert connection.recv(1) == b""
        assert 0.25 < time.monotonic() - start < SLOW


def test_a_reset_comes_in_the_middle_of_the_body():
    with serve(faults={"reset": 1.0}) as server, closing(connect(server)) as connection:
        connection.sendall(on_the_wire(GOOD))
        time.sleep(0.1)
        got = connection.recv(2**16)
        with pytest.raises(ConnectionResetError):
            connection.recv(2**16)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert f"Content-Length: {len(ANSWER)}".encode() in head
    assert body == ANSWER[: len(ANSWER) // 2]


def test_bodies_that_are_no_completion():
    cut = faulty("truncated_json")
    assert cut.headers["content-type"] == "application/json"
    assert cut.content == ANSWER[: len(ANSWER) // 2]
    page = faulty("html")
    assert page.headers["content-type"] == "text/html"
    assert page.content.startswith(b"<html>")
    assert faulty("empty_choices").json() == {**json.loads(ANSWER), "choices": []}
    right = faulty("wrong_content_type")
    assert (right.headers["content-type"], right.content) == ("text/html", ANSWER)


@pytest.mark.parametrize("fault", ["null_content", "refusal"])
def test_an_answer_without_text(fault):
    message = faulty(fault).json()["choices"][0]["message"]
    assert message["content"] is None
    assert bool(message.get("refusal")) == (fault == "refusal")


@pytest.mark.parametrize("fault", ["garbage", "escapes", "huge"])
def test_a_text_that_no_parser_of_scores_takes(fault):
    text = read_completion(faulty(fault).content).text
    with pytest.raises(Unparsable):
        parse_pair_scores(text)
    assert fault != "garbage" or text == GARBAGE.replace("\ud800", "?")
    assert fault != "escapes" or ("\x1b[2J" in text and "<b>" in text)


def test_five_megabytes_arrive_whole():
    answer = faulty("huge")
    assert HUGE < len(answer.content) < 1.1 * HUGE
    scores = json.loads(ANSWER)["choices"][0]["message"]["content"]
    assert answer.json()["choices"][0]["message"]["content"].startswith(f"{scores} word")


@pytest.mark.parametrize("fault", ["missing_tags", "escapes", "length"])
def test_tags_that_are_gone_escaped_or_cut_off(fault):
    body = request(REWRITING.messages)
    whole = read_completion(reply(body)).text
    spoiled = read_completion(faulty(fault, body).content)
    assert parse_rewriting(whole)
    with pytest.raises(Unparsable):
        parse_rewriting(spoiled.text)
    assert spoiled.finish_reason == ("length" if fault == "length" else "stop")
    if fault == "missing_tags":
        assert spoiled.text.strip() == parse_rewriting(whole)
    if fault == "length":
        assert spoiled.text == whole[: len(whole) // 2]


def test_a_text_without_tags_misses_none():
    assert read_completion(faulty("missing_tags").content) == read_completion(ANSWER)


def test_a_rate_moves_no_draw_of_the_others():
    rates = {"500": 0.3, "hang": 0.2}
    digests = [str(number) for number in range(300)]
    alone = [draw_fault(rates, digest, 0) for digest in digests]
    assert {"500", "hang", None} == set(alone)
    more = [draw_fault({**rates, "html": 0.4}, digest, 0) for digest in digests]
    assert [fault if fault != "html" else None for fault in more] == alone
    assert 0.3 < more.count("html") / 300 < 0.5
    assert [draw_fault(rates, digest, 1) for digest in digests] != alone
    assert not any(draw_fault(rates, digest, FAULTY_ASKS) for digest in digests)


# -- what is counted -----------------------------------------------------------------------------------------


def test_the_count_can_be_read_from_another_process():
    with serve(api_key="secret") as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/testbed/written"
        assert httpx.get(url).json() == {"written": 0}
        with httpx.Client(headers={"Authorization": "Bearer secret"}, timeout=SLOW) as client:
            for number in range(1, 4):
                client.post(f"{server.base_url}/chat/completions", json=GOOD)
                client.get(f"{server.base_url}/models")
                assert client.post(f"{server.base_url}/chat/completions", json={}).status_code == 400
                assert client.get(url).json() == {"written": number} == {"written": server.written}


def test_an_answer_that_was_not_taken_is_not_counted():
    """What a slow reader has not got yet, nor what one that went away never got."""
    with serve(faults={"huge": 1.0}) as server:
        with closing(connect(server)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
            slow.sendall(on_the_wire(GOOD))
            assert slow.recv(1) == b"H"
            time.sleep(0.2)
            assert server.written == 0
        other = {**GOOD, "seed": 1}
        with closing(connect(server)) as reader:
            reader.sendall(on_the_wire(other))
            assert len(read_answer(reader)[2]) > HUGE
        deadline = time.monotonic() + SLOW
        while server.written < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.written == 1


def test_no_answer_leaves_while_the_lock_is_held():
    with serve() as server, closing(connect(server)) as connection:
        connection.settimeout(0.3)
        with server.lock:
            connection.sendall(on_the_wire(GOOD))
            with pytest.raises(TimeoutError):
                connection.recv(1)
        connection.settimeout(SLOW)
        assert read_answer(connection)[0] == 200


# -- HTTP ----------------------------------------------------------------------------------------------------


BODY = json.dumps(GOOD).encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /v1/models HTTP/2.0\r\n\r\n", 400),
        (b"GET v1/models HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),  # TLS to a server that speaks none
        (b"GET /v1/models HTTP/1.1\r\nNo colon\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nFolded: a\r\n b\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nSpaced : a\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nA: b\nContent-Length: 5\r\n\r\n", 400),
        (POST + b"\r\n", 400),
        (POST + b"Content-Length: -1\r\n\r\n", 400),
        (POST + b"Content-Length: +5\r\n\r\nhello", 400),
        (POST + b"Content-Length: \xb2\r\n\r\nhello", 400),
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
        (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: %d\r\n\r\n" % (LARGEST_BODY + 1), 413),
        (POST + b"Content-Length: %s\r\n\r\n" % (b"9" * 5000), 413),
        (POST + b"X: " + b"x" * (LARGEST_HEAD + 1) + b"\r\n\r\n", 431),
        (POST + b"X: " + b"x" * 2**20, 431),
    ],
)
def test_a_malformed_request_is_told_so_and_ends_its_connection_alone(raw, status):
    with serve() as server, closing(connect(server)) as other, closing(connect(server)) as connection:
        connection.sendall(raw)
        code, headers, body = read_answer(connection)
        assert (code, headers["Connection"]) == (status, "close")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert connection.recv(1) == b""
        other.sendall(on_the_wire(GOOD))
        assert read_answer(other)[2] == ANSWER


def test_requests_sent_ahead_are_answered_in_order_on_one_connection():
    bodies = [request([{"role": "user", "content": text}]) for text in TEXTS[:5]]
    with serve(latency=0.02) as server, closing(connect(server)) as connection:
        connection.sendall(b"".join(map(on_the_wire, bodies)))
        answers = [read_answer(connection) for _ in bodies]
        assert [body for _, _, body in answers] == [reply(body) for body in bodies]
        assert all("Connection" not in headers for _, headers, _ in answers)


@pytest.mark.parametrize("line", [b"POST /v1/chat/completions HTTP/1.0\r\n", POST + b"Connection: Close\r\n"])
def test_a_client_that_wants_one_answer_gets_one(line):
    with serve() as server, closing(connect(server)) as connection:
        connection.sendall(line + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        _, headers, body = read_answer(connection)
        assert (headers["Connection"], body) == ("close", ANSWER)
        assert connection.recv(1) == b""


def test_a_client_that_asks_whether_to_go_on_is_told_so():
    with serve() as server, closing(connect(server)) as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert read_answer(connection)[2] == ANSWER


async def read_all(pieces: list[bytes]) -> list[bytes | int | None]:
    """The bodies of a stream that arrives in pieces; a status where it is malformed, None at its end."""
    reader = asyncio.StreamReader(limit=LARGEST_HEAD)
    for piece in pieces:
        reader.feed_data(piece)
    reader.feed_eof()
    found: list[bytes | int | None] = []
    while not found or isinstance(found[-1], bytes):
        try:
            one = await read_request(reader, None)  # type: ignore[arg-type]  # none of these wants to be told to go on
            found.append(None if one is None else one.body)
        except Malformed as error:
            found.append(error.status)
    return found


@given(st.lists(st.binary(max_size=40), max_size=4), st.data())
def test_how_a_stream_is_cut_changes_nothing(bodies, data):
    stream = b"".join(POST + b"Content-Length: %d\r\n\r\n%s" % (len(body), body) for body in bodies)
    at = data.draw(st.integers(0, len(stream)))
    assert asyncio.run(read_all([stream[:at], stream[at:]])) == [*bodies, None]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_an_end_or_malformed(raw):
    assert asyncio.run(read_all([raw, b"\r\n\r\n"]))[-1] in (None, 400, 413)


# -- many at once, and the end -------------------------------------------------------------------------------


def test_256_connections_wait_side_by_side():
    """512 answers of half a second each, in the time of two and not of 512."""

    async def client(server, numbers) -> int:
        reader, writer = await asyncio.open_connection(*server.server_address)
        right = 0
        for number in numbers:
            writer.write(on_the_wire(request([{"role": "user", "content": f"{TEXTS[0]} {number}"}])))
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))
            right += bool(read_completion(body).text)
        writer.close()
        return right

    async def all_of_them(server) -> int:
        numbers = iter(range(512))
        return sum(await asyncio.gather(*(client(server, (next(numbers), next(numbers))) for _ in range(256))))

    with serve(latency=0.5) as server:
        start = time.monotonic()
        assert asyncio.run(all_of_them(server)) == 512
        assert 1.0 < time.monotonic() - start < SLOW
        assert server.written == 512


def test_the_end_waits_for_nobody():
    """Not for requests half sent, answers half read, silence or latency."""
    with serve(latency=600, faults={"hang": 1.0}, hang_seconds=600) as server, closing(connect(server)) as late:
        late.sendall(on_the_wire(GOOD))
        time.sleep(0.1)
        start = time.monotonic()
    assert time.monotonic() - start < SLOW
    with serve(faults={"huge": 0.5, "hang": 0.5}, hang_seconds=600) as server:
        connections = [connect(server) for _ in range(30)]
        for number, connection in enumerate(connections):
            connection.sendall(on_the_wire({**GOOD, "seed": number})[: None if number % 3 else 100])
        time.sleep(0.3)
        start = time.monotonic()
    assert time.monotonic() - start < SLOW
    for connection in connections:
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        connect(server)
