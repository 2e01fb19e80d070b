"""One request to one chat endpoint in OpenAI's chat-completions format: what is sent, what can come back.

A `Transport` sends a body and gives the raw response; `HttpTransport` speaks to any compatible server.
Knows nothing of the ledger, of retries or of what the answer means.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from reward_distiller.config import ChatModel
from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.teacher.http_client import HttpClient, Reply, Retry
from reward_distiller.teacher.ledger import Stored
from reward_distiller.teacher.questions import Messages

OVERLOADED = (429, 503, 529)  # 529 is Anthropic's
TOO_LONG = "too long for the model"
_TOO_LONG = re.compile("context_length_exceeded|context length|context window|too long|too many tokens", re.IGNORECASE)


class Overloaded(Retry):
    """The server has too much to do; `after` are the seconds it asks to wait, where it does."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


class Refused(Exception):
    """The server will not answer this request, however often it is sent (too long, bad parameter)."""


class Transport(Protocol):
    async def send(self, model: ChatModel, request: dict[str, Any]) -> bytes:
        """Give the raw body of a successful response. Raises Retry, Refused or EndpointError."""

    async def close(self) -> None: ...


def build_request(
    model: ChatModel, messages: Messages, sample: int, extra: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """All that decides the answer, and nothing else: the ledger's key is the hash of this.

    `extra` are fields that this question needs beside its messages.
    """
    sampling = {name: value for name, value in model.sampling if value is not None}
    sampling[model.max_tokens_field] = sampling.pop("max_tokens")
    request: dict[str, Any] = {"model": model.model, "messages": list(messages), **sampling, "sample": sample}
    if model.chat_template_kwargs:
        request["chat_template_kwargs"] = model.chat_template_kwargs
    return {**request, **extra, **model.extra_body}


def wire_body(request: dict[str, Any]) -> dict[str, Any]:
    """What a server is sent: the sample's index tells samples apart in the ledger only."""
    return {name: value for name, value in request.items() if name != "sample"}


def check_environment(model: ChatModel) -> None:
    """Raise ConfigError where a key or header that the config names is not set, before any call is made."""
    for place in model.places.values():
        _check_place(place)


def _check_place(model: ChatModel) -> None:
    for name in filter(None, [model.api_key_env, *model.headers_env.values()]):
        value = os.environ.get(name)
        if not value:
            raise ConfigError(
                f"model {model.model!r}: the environment variable {name} is not set. Set it, then run again"
            )
        if not _fits_header(value):
            raise ConfigError(
                f"model {model.model!r}: the environment variable {name} holds what no HTTP header can (a line break "
                "at its end?). Mend it, then run again"
            )
    for name, value in model.headers.items():
        if not _fits_header(value):
            raise ConfigError(f"model {model.model!r}: headers.{name} holds what no HTTP header can. Write plain ASCII")


def _fits_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()


class HttpTransport:
    """POST {base_url}/chat/completions."""

    def __init__(self) -> None:
        self._http = HttpClient()

    async def send(self, model: ChatModel, request: dict[str, Any]) -> bytes:
        return accept(model, await self._http.request(model, "POST", "chat/completions", wire_body(request)))

    async def close(self) -> None:
        await self._http.close()


def accept(model: ChatModel, reply: Reply) -> bytes:
    """The body of a successful reply. Raises Retry, Refused or EndpointError for any other."""
    status, where = reply.status, f"model {model.model!r} at {model.base_url}"
    if status == 200:
        return reply.body
    said = printable(_without_secrets(model, reply.text))[:300]
    if status in (401, 403):
        key = f"the key in {model.api_key_env}" if model.api_key_env else "a request without a key (set api_key_env)"
        raise EndpointError(f"{where} rejects {key} (HTTP {status}: {said}). Mend the key, then run again")
    if status == 404:
        raise EndpointError(f"{where}: not found (HTTP 404: {said}). Check base_url and model")
    if status in OVERLOADED:
        raise Overloaded(f"HTTP {status}: {said}", _seconds(reply.headers.get("retry-after")))
    if status in (408, 409) or status >= 500:
        raise Retry(f"HTTP {status}: {said}")
    if status in (400, 413) and _TOO_LONG.search(reply.text):
        raise Refused(f"{TOO_LONG}: HTTP {status}: {said}")
    if status in (400, 422) and (name := _parameter(reply)):
        raise EndpointError(
            f"{where} does not take the parameter {name} (HTTP {status}: {said}). Mend `sampling`, `extra_body` or "
            "what `annotation` asks for, then run again"
        )
    raise Refused(f"HTTP {status}: {said}")


def _parameter(reply: Reply) -> str | None:
    """The request's field at fault, as OpenAI and as FastAPI servers (vLLM) name it; None for a message's fault."""
    try:
        said = json.loads(reply.body)
        if isinstance(said.get("detail"), list):
            name = ".".join(str(part) for part in said["detail"][0]["loc"] if part != "body")
        else:
            name = said["error"]["param"].removeprefix("body.")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    return name if isinstance(name, str) and name and not name.startswith("messages") else None


def _without_secrets(model: ChatModel, text: str) -> str:
    """What a server said, for the ledger and for messages: some repeat the key that they reject."""
    for name in filter(None, [model.api_key_env, *model.headers_env.values()]):
        value = os.environ.get(name)
        text = text.replace(value, f"[{name}]") if value else text
    return text


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, min(float(text), 600.0)) if text else None
    except ValueError:
        return None


def printable(text: str) -> str:
    """Text with control characters (terminal escapes among them) shown as escapes."""
    return "".join(c if c.isprintable() or c == " " else repr(c)[1:-1] for c in text)


def store(body: bytes, price_factor: float = 1.0) -> Stored:
    """A body with the usage that the server put into it, where it did."""
    try:
        usage = json.loads(body)["usage"]
        counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        counts = [None, None]
    read, written = (c if isinstance(c, int) and 0 <= c < 2**62 else None for c in counts)
    return Stored(body, read, written, price_factor)
