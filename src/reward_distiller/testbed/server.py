"""The testbed's scripted models over HTTP, in OpenAI's chat-completions format, with faults on request.

For trying a real client against a server that costs nothing and misbehaves on purpose. Answers and
faults depend on the request's body alone, and on how often that body was seen: only the first two asks
of a body can meet a fault, so asking again always succeeds in the end. Listens on loopback; knows
nothing of ledgers, retries or parsers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.testbed.models import MODELS, completion_body, reply

# 429 and 500 are answers that say "later"; reset breaks off in the middle of a body; hang never answers;
# the rest are HTTP 200 with something in the body that no client can use.
FAULTS = ("429", "500", "hang", "reset", "truncated_json", "empty_choices", "garbage", "html")
FAULTY_ASKS = 2  # asks of one body that can meet a fault: fewer than a client's usual three samples
LARGEST_BODY = 64 * 2**20  # bytes; no conversation is longer, and a wrong length must not fill the memory
GARBAGE = "neither 7 nor \ud800 nor <edited_response> \x1b[31m 8 8 8"  # fits no format; half a character, an escape


class ModelServer(ThreadingHTTPServer):
    """A running server.

    `written` counts the answers (HTTP 200) written in full, what a real server would bill; `asked` counts the
    requests for each body, by its SHA-256.
    """

    daemon_threads = True
    request_queue_size = 1024  # a client may open all its connections at once

    def __init__(
        self, port: int, *, api_key: str | None, latency: float, faults: Mapping[str, float], hang_seconds: float
    ):
        unknown = sorted(set(faults) - set(FAULTS))
        if unknown:
            raise ConfigError(f"fault {unknown[0]!r} is none of {', '.join(FAULTS)}")
        if any(not 0 <= rate <= 1 for rate in faults.values()) or sum(faults.values()) > 1 + 1e-9:
            raise ConfigError("the rates of faults must lie between 0 and 1, and must not sum to more than 1")
        self.api_key, self.latency, self.faults, self.hang_seconds = api_key, latency, dict(faults), hang_seconds
        self.written = 0
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.closing = threading.Event()
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port}: cannot listen there ({error}). Take another; 0 finds a free one"
            ) from error

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_fault(self, body: bytes) -> str | None:
        """Count one more ask of this body, and draw what goes wrong with it from their hash."""
        digest = hashlib.sha256(body).hexdigest()
        with self.lock:
            seen = self.asked[digest]
            self.asked[digest] += 1
        if seen >= FAULTY_ASKS:
            return None
        draw = int(hashlib.sha256(f"fault:{seen}:{digest}".encode()).hexdigest()[:12], 16) / 16**12
        for name in FAULTS:
            draw -= self.faults.get(name, 0.0)
            if draw < 0:
                return name
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, killed ones among them, are expected here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # headers and body are two writes; waiting for an ACK between them costs 40 ms
    server: ModelServer

    def do_GET(self) -> None:
        if self.path.rstrip("/") != "/v1/models":
            return self._error(404, f"there is no GET {self.path}")
        if self._allowed():
            models = [{"id": name, "object": "model", "owned_by": "testbed"} for name in MODELS]
            self._json(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = self._read_body()
        if body is None:
            return
        if self.path.rstrip("/") != "/v1/chat/completions":
            return self._error(404, f"there is no POST {self.path}")
        if not self._allowed():
            return
        if self.server.closing.wait(self.server.latency):
            self.close_connection = True
            return
        try:
            request = _checked(body)
            answer = reply(request)
        except Refused as error:
            return self._error(404, str(error), "model_not_found")
        except (ValueError, LookupError) as error:
            return self._error(400, f"this request cannot be answered: {error}")
        self._answer(request, answer, self.server.next_fault(body))

    def _answer(self, request: dict[str, Any], answer: bytes, fault: str | None) -> None:
        if fault in ("429", "500"):
            again = {"Retry-After": "0"} if fault == "429" else {}
            self._error(int(fault), "a fault that was asked for", headers=again)
        elif fault == "hang":
            self.server.closing.wait(self.server.hang_seconds)
            self.close_connection = True
        elif fault == "reset":
            self._send(200, "application/json", answer, only=len(answer) // 2)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif fault == "truncated_json":
            self._send(200, "application/json", answer[: len(answer) // 2])
        elif fault == "empty_choices":
            self._json(200, {**json.loads(answer), "choices": []})
        elif fault == "garbage":
            self._json(200, json.loads(completion_body(request["model"], "", 1, "0")) | {"choices": [_GARBAGE_CHOICE]})
        elif fault == "html":
            self._send(200, "text/html", b"<html><body>Please log in to continue</body></html>")
        else:
            self._send(200, "application/json", answer)

    def _allowed(self) -> bool:
        key = self.server.api_key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._error(401, "no valid API key", "invalid_api_key")
        return False

    def _read_body(self) -> bytes | None:
        """The request's body, or None after a 400 where its length is not told or cannot be."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > LARGEST_BODY:
            self.close_connection = True  # where the next request would begin is not known
            self._error(400, "send the body with its Content-Length")
            self._drain()
            return None
        return self.rfile.read(int(length))

    def _drain(self) -> None:
        """Read on for a moment: closing with bytes unread would reset the connection and lose the answer."""
        self.connection.settimeout(0.2)
        with contextlib.suppress(OSError):
            for _ in range(64):
                if not self.rfile.read1(2**16):
                    break

    def _error(self, status: int, message: str, code: str | None = None, headers: Mapping[str, str] = {}) -> None:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self._json(status, {"error": {"message": message, "type": kind, "param": None, "code": code}}, headers)

    def _json(self, status: int, value: Any, headers: Mapping[str, str] = {}) -> None:
        self._send(status, "application/json", json.dumps(value).encode(), headers)

    def _send(
        self, status: int, kind: str, body: bytes, headers: Mapping[str, str] = {}, only: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[:only])
        if only is None and status == 200 and self.command == "POST":
            with self.server.lock:
                self.server.written += 1

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: a line a request would drown what the client's command has to say."""


_GARBAGE_CHOICE = {"index": 0, "message": {"role": "assistant", "content": GARBAGE}, "finish_reason": "stop"}


def _checked(body: bytes) -> dict[str, Any]:
    """A chat-completions request with all that `reply` reads. Raises ValueError with what is wrong."""
    try:
        request = json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(request, dict) or not isinstance(request.get("model"), str):
        raise ValueError("not an object with a `model`")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ValueError("`messages` is not a list that holds one")
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            raise ValueError("each message needs a `role` and a `content` that are text")
    options = request.get("testbed", {})
    if not isinstance(options, dict) or not all(type(v) in (int, float) for v in options.values()):
        raise ValueError("`testbed` is not an object of numbers")
    return request


@contextmanager
def serve(
    port: int = 0,
    *,
    api_key: str | None = None,
    latency: float = 0.0,
    faults: Mapping[str, float] = {},
    hang_seconds: float = 30.0,
) -> Iterator[ModelServer]:
    """Run a server in a thread of its own; it is shut down whichever way the block ends.

    `faults` gives rates by name (`FAULTS`); `hang_seconds` is how long a hanging request stays open.
    Raises ConfigError for an unknown fault and for a port that cannot be had.
    """
    server = ModelServer(port, api_key=api_key, latency=latency, faults=faults, hang_seconds=hang_seconds)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def serve_forever(port: int, **options: Any) -> None:
    """Serve until SIGINT or SIGTERM. Takes the options of `serve`; says on standard output where it listens."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job would ignore the first
        signal.signal(number, lambda *_: stopped.set())
    with serve(port, **options) as server:
        print(f"listening on {server.base_url}", flush=True)
        stopped.wait()
        print(f"stopped; answers written: {server.written}")
