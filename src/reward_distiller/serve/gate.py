"""What every request passes before a route sees it: the token, the size of the body, whether the server is stopping.

An ASGI application around another. It reads the body whole, counts and times every answer, and lets no exception (whose
message could hold a text) reach the log. Knows no routes but their names, and no model.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from reward_distiller.console import say
from reward_distiller.serve.metrics import Metrics
from reward_distiller.serve.refusals import Refused

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCORING = ("/v1/rewards", "/classify", "/get_reward")
ROUTES = (*SCORING, "/health", "/metrics", "/docs", "/openapi.json")
BODY_SECONDS = 60.0  # for a body to arrive
DISCARDED = 8  # times the limit: of what is refused, so much is read first, or its sender may miss the answer


class ClientLeft(Exception):
    """There is nobody to answer."""


class Gate:
    """`draining` refuses new work; `under_way` counts requests for rewards that are not answered yet."""

    def __init__(self, app: App, metrics: Metrics, body_bytes: int, token: str | None = None):
        self.app, self.metrics, self.body_bytes = app, metrics, body_bytes
        self._token = None if token is None else token.encode()
        self.draining = False
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        route = scope["path"] if scope["path"] in ROUTES else "other"
        status, start = 0, time.monotonic()

        async def counted(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
            await send(event)

        works = route in SCORING
        self.under_way += works
        try:
            await self._pass(scope, receive, counted, works)
        except ClientLeft:
            self.metrics.left.inc()
            status = status or 499  # as nginx counts them; nobody reads it
        except Exception as error:  # noqa: BLE001 - its message could hold a client's text
            say(f"serve: {type(error).__name__} in {route}")
            if not status:
                await answer(counted, Refused(500, "the server failed in this request"))
        finally:
            self.under_way -= works
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - start)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, works: bool) -> None:
        headers = dict(scope["headers"])
        refusal = self._refusal(headers) if works else None
        body = await self._body(receive, headers, keep=refusal is None)
        if refusal is None and body is None:
            refusal = Refused(413, f"the body is over {self.body_bytes} bytes. Send fewer responses at once")
        if refusal is not None:
            return await answer(send, refusal)
        sent = False

        async def replayed() -> Event:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replayed, send)

    def _refusal(self, headers: dict[bytes, bytes]) -> Refused | None:
        if self._token is not None:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if not hmac.compare_digest(given.strip(), self._token) or scheme.lower() != b"bearer":
                return Refused(401, "the bearer token is missing or wrong")
        if self.draining:
            return Refused(503, "the server is stopping. Come again", 1)
        return None

    async def _body(self, receive: Receive, headers: dict[bytes, bytes], keep: bool) -> bytes | None:
        """The body; None where it is larger than allowed. What is not kept is read and thrown away, up to a point."""
        most = DISCARDED * self.body_bytes
        if int(headers.get(b"content-length", b"0")) > most:
            return None
        parts, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while size <= most:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        raise ClientLeft
                    size += len(event.get("body", b""))
                    keep = keep and size <= self.body_bytes
                    if keep:
                        parts.append(event.get("body", b""))
                    else:
                        parts.clear()
                    if not event.get("more_body", False):
                        break
        except TimeoutError:
            raise ClientLeft from None
        return b"".join(parts) if size <= self.body_bytes else None


async def answer(send: Send, refusal: Refused) -> None:
    content = json.dumps(refusal.body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **refusal.headers}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
