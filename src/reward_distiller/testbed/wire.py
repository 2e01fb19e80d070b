"""HTTP/1.1 as the testbed's server speaks it: requests with a Content-Length, kept-alive connections, nothing more.

Small and strict: what is not plainly well-formed is Malformed, and after that the connection ends, since nobody knows
where its next request would begin. On asyncio's streams and nothing else. Knows no chat completions and no faults.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

LARGEST_HEAD = 64 * 2**10  # bytes; what browsers and servers allow is a fraction of it
LARGEST_BODY = 64 * 2**20  # bytes; no conversation is longer, and a wrong length must not fill the memory
LINGER = 0.2  # seconds to read on after a request that was refused half-read
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # what RFC 9110 calls a token
_REASONS = {int(status): status.phrase for status in HTTPStatus}


class Malformed(Exception):
    """A request that cannot be read; the message says why, for the client."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """A request whole. The names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    stays: bool  # whether the connection may serve another request


@dataclass(frozen=True)
class Reply:
    """An answer; `broken_at` is how many bytes of the body leave before the connection is reset."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    broken_at: int | None = None

    def encoded(self, stays: bool) -> bytes:
        """Head and body as one piece, so that they leave in one packet where they fit."""
        lines = [f"HTTP/1.1 {self.status} {_REASONS[self.status]}", f"Content-Type: {self.kind}"]
        lines += [f"Content-Length: {len(self.body)}", *(f"{name}: {value}" for name, value in self.headers.items())]
        lines += ["", ""] if stays else ["Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body[: self.broken_at]


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request, or None where the client has left. Raises Malformed, and ConnectionError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, path, headers, stays = _parse_head(head[:-4].decode("latin-1"))
        length = _body_length(method, headers)
        if length and headers.get("expect", "").lower() == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return Request(method, path, headers, await reader.readexactly(length), stays)
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise Malformed(431, "the request's headers are too long") from error


def _parse_head(head: str) -> tuple[str, str, dict[str, str], bool]:
    first, *lines = head.split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/") or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise Malformed(400, "the first line is no METHOD /PATH HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if not colon or not _NAME.fullmatch(name) or "\n" in value or "\r" in value or "\0" in value:
            raise Malformed(400, "a header is no NAME: VALUE")
        if name == "content-length" and headers.get(name, value) != value:
            raise Malformed(400, "two lengths for one body")
        headers[name] = value
    connection = headers.get("connection", "").lower()
    return parts[0], parts[1], headers, parts[2] == "HTTP/1.1" and connection != "close"


def _body_length(method: str, headers: Mapping[str, str]) -> int:
    length = headers.get("content-length", "0" if method == "GET" else "")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()):
        raise Malformed(400, "send the body with its Content-Length")
    if len(length) > len(str(LARGEST_BODY)) or int(length) > LARGEST_BODY:
        raise Malformed(413, f"a body of more than {LARGEST_BODY} bytes")
    return int(length)


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection off with a TCP reset, after what the kernel already has."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read on for a moment: closing with bytes unread would reset the connection and lose the last answer."""
    writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(2**16):
                pass
