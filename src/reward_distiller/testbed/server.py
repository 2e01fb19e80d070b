"""The testbed's scripted models over HTTP, in OpenAI's chat-completions format, with faults on request.

For trying a real client against a server that costs nothing and misbehaves on purpose. Answers and
faults depend on the request's body alone, and on how often that body was seen: only the first two asks
of a body can meet a fault, so asking again always succeeds in the end. On asyncio's streams, in one
thread: connections that wait cost next to nothing, and for a few paths no web framework is needed.
Listens on loopback; knows nothing of ledgers, retries or parsers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.testbed.batches import PATHS, BatchDesk
from reward_distiller.testbed.faults import check_rates, draw_fault, error_reply, spoiled
from reward_distiller.testbed.models import MODELS, reply
from reward_distiller.testbed.wire import LARGEST_HEAD, Malformed, Reply, Request, linger, read_request, reset

COMPLETIONS, LIST, WRITTEN = "/v1/chat/completions", "/v1/models", "/testbed/written"
WAITING_CONNECTIONS = 1024  # a client may open all its connections at once
LARGE = 2**16  # bytes of an answer that a connection may not take at once
MOST_ALTERNATIVES = 20  # OpenAI's limit on top_logprobs


class ModelServer:
    """A running server.

    `written` counts the answers (HTTP 200) written in full, what a real server would bill. `asked` counts the requests
    for each body, by its SHA-256, and `answered` those of them that were answered so. No answer leaves while another
    thread holds `lock`.
    """

    def __init__(
        self,
        port: int,
        *,
        api_key: str | None,
        latency: float,
        faults: Mapping[str, float],
        hang_seconds: float,
        batch_looks: int,
        batch_faults: Sequence[str],
    ):
        self.faults = check_rates(faults)
        self.api_key, self.latency, self.hang_seconds = api_key, latency, hang_seconds
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.answered: Counter[str] = Counter()
        self._written = 0
        self.batches = BatchDesk(self._complete, self._bill, batch_looks, batch_faults)
        try:
            self._socket = socket.create_server(("127.0.0.1", port), backlog=WAITING_CONNECTIONS)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port}: cannot listen there ({error}). Take another; 0 finds a free one"
            ) from error
        self.server_address: tuple[str, int] = self._socket.getsockname()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def written(self) -> int:
        with self.lock:  # who has read an answer must find it counted
            return self._written

    def next_fault(self, body: bytes) -> str | None:
        """Count one more ask of this body, and draw what goes wrong with it from their hash."""
        digest = _digest(body)
        with self.lock:
            seen = self.asked[digest]
            self.asked[digest] += 1
        return draw_fault(self.faults, digest, seen)

    def run(self) -> None:
        """Serve until `stop`, which another thread calls; then every connection is closed."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._listen())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _listen(self) -> None:
        server = await asyncio.start_server(
            self._converse, sock=self._socket, limit=LARGEST_HEAD, backlog=WAITING_CONNECTIONS
        )
        await self._stop.wait()
        server.close()  # what still runs is cancelled when the loop ends

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        writer.transport.set_write_buffer_limits(0)  # drained means that the kernel has it all
        try:
            while await self._serve_one(reader, writer):
                pass
        except OSError:
            pass  # clients that go away, killed ones among them, are expected here
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. False where the connection ends."""
        try:
            request = await read_request(reader, writer)
        except Malformed as error:
            await self._write(writer, error_reply(error.status, str(error)), stays=False)
            await linger(reader, writer)
            return False
        if request is None:
            return False
        answer = await self._answer(request)
        if answer is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.hang_seconds):
                    while await reader.read(2**16):  # ends where the client gives up
                        pass
            return False
        if writer.transport.is_closing():
            return False
        completes = (request.method, request.path.rstrip("/")) == ("POST", COMPLETIONS)
        billed = completes and answer.status == 200 and answer.broken_at is None
        await self._write(writer, answer, request.stays, _digest(request.body) if billed else None)
        if answer.broken_at is not None:
            reset(writer)
            return False
        return request.stays

    async def _write(self, writer: asyncio.StreamWriter, answer: Reply, stays: bool, billed: str | None = None) -> None:
        """`billed`: the SHA-256 of the body whose answer counts once it is written.

        The last byte of a large answer leaves by itself, when all others have left, so that nobody who has read the
        answer finds it not counted yet.
        """
        data = answer.encoded(stays)
        if len(data) > LARGE:
            writer.transport.set_write_buffer_limits(high=0)  # drained is sent
            writer.write(data[:-1])
            await writer.drain()
            data = data[-1:]
        with self.lock:
            writer.write(data)
            if not writer.transport.get_write_buffer_size():
                if not writer.transport.is_closing():  # as it is where the client was gone
                    self._count(billed)
                return
        await writer.drain()
        with self.lock:
            self._count(billed)

    def _bill(self, body: bytes) -> None:
        with self.lock:
            self._count(_digest(body))

    def _count(self, billed: str | None) -> None:
        if billed is not None:
            self._written += 1
            self.answered[billed] += 1

    async def _answer(self, request: Request) -> Reply | None:
        """None where a fault wants silence."""
        path = request.path.rstrip("/")
        if (request.method, path) == ("GET", WRITTEN):
            return Reply(200, json.dumps({"written": self.written}).encode())
        batched = path.startswith(PATHS)
        if not batched and (request.method, path) not in (("GET", LIST), ("POST", COMPLETIONS)):
            return error_reply(404, f"there is no {request.method} {request.path}")
        if self.api_key is not None and request.headers.get("authorization") != f"Bearer {self.api_key}":
            return error_reply(401, "no valid API key", "invalid_api_key")
        if batched:
            return self.batches.reply(request)
        if request.method == "GET":
            models = [{"id": name, "object": "model", "owned_by": "testbed"} for name in MODELS]
            return Reply(200, json.dumps({"object": "list", "data": models}).encode())
        if self.latency:
            await asyncio.sleep(self.latency)
        return self._complete(request.body)

    def _complete(self, body: bytes) -> Reply | None:
        try:
            asked = _checked(body)
            if asked["model"] not in MODELS:
                return error_reply(404, f"there is no model {asked['model']!r}", "model_not_found")
            answer = reply(asked)
        except (Refused, ValueError, LookupError) as error:
            return error_reply(400, f"this request cannot be answered: {error}")
        fault = self.next_fault(body)
        if fault == "hang":
            return None
        return spoiled(answer, fault) if fault else Reply(200, answer)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


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
    top = request.get("top_logprobs")
    if top is not None and (type(top) is not int or not 0 <= top <= MOST_ALTERNATIVES):
        raise ValueError(f"`top_logprobs` is no number from 0 to {MOST_ALTERNATIVES}")
    if top is not None and request.get("logprobs") is not True:
        raise ValueError("`top_logprobs` needs `logprobs: true`")
    return request


@contextmanager
def serve(
    port: int = 0,
    *,
    api_key: str | None = None,
    latency: float = 0.0,
    faults: Mapping[str, float] = {},
    hang_seconds: float = 30.0,
    batch_looks: int = 0,
    batch_faults: Sequence[str] = (),
) -> Iterator[ModelServer]:
    """Run a server in a thread of its own; it is shut down whichever way the block ends.

    `faults` gives rates by name (`faults.FAULTS`); `latency` is seconds before each answer, `hang_seconds` how long a
    hanging request stays open; `batch_looks` how often a batch is looked at before it ends, `batch_faults` what befalls
    the first batches (`batches.FAULTS`). Raises ConfigError for an unknown fault and for a port that cannot be had.
    """
    server = ModelServer(
        port,
        api_key=api_key,
        latency=latency,
        faults=faults,
        hang_seconds=hang_seconds,
        batch_looks=batch_looks,
        batch_faults=batch_faults,
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
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
