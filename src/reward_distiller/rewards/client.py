"""A client of reward servers: it asks again where that can help, and takes nothing but finite numbers for rewards.

    .../v1/rewards   {"prompt": messages, "responses": [text, ...]} -> {"rewards": [number, ...]}      (ours)
    .../classify     {"messages": messages with the response, "use_activation": false} -> {"data": [{"probs": [...]}]}
                     (vLLM's, for a classifier with one label: the raw reward is the last of `probs`)

A server that is busy, stopping or gone is asked again until patience ends, when it says or ever less often, with chance
in the waits so that many clients do not come at once. Scoring changes nothing, so asking twice does no harm.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import httpx

from reward_distiller.errors import ConfigError, EndpointError

Prompt = str | Sequence[dict[str, str]]
AT_ONCE = 16  # requests under way: enough for a server that batches, few enough for one that does not
BUSY = (408, 425, 429, 502, 503, 504)
NEVER_SENT = (httpx.LocalProtocolError, httpx.UnsupportedProtocol)
FAILED_TRIES = 3  # of a request that the server fails in (500): it may be the request
LONGEST_WAIT = 60.0  # seconds, whatever a server asks for
URL, TOKEN = "REWARD_DISTILLER_URL", "REWARD_DISTILLER_TOKEN"


class RewardClient:
    """Asks one server, from any thread and any event loop. A URL that names no format of the above gets /v1/rewards.

    `token_env` names the environment variable with its bearer token. `patience` is how long, in seconds, one request
    is tried again; `timeout` is for one try. Calls raise EndpointError where no rewards are to be had.
    """

    def __init__(self, url: str, token_env: str | None = None, patience: float = 300.0, timeout: float = 300.0):
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"{url}: not a URL. Write for example http://127.0.0.1:8000")
        if not self.url.endswith(("/v1/rewards", "/classify", "/get_reward")):
            self.url += "/v1/rewards"
        self.patience = patience
        headers = {}
        if token_env:
            token = os.environ.get(token_env)
            if not token:
                raise ConfigError(f"the environment variable {token_env} is not set. Set it, then run again")
            headers["Authorization"] = f"Bearer {token}"
        self._options: dict[str, Any] = {
            "headers": headers,
            "timeout": httpx.Timeout(timeout, pool=None),
            "limits": httpx.Limits(max_connections=AT_ONCE),
            "verify": httpx.create_ssl_context(),  # slow to make, so made once
        }

    @classmethod
    def from_environment(cls, path: str = "/v1/rewards", **options: Any) -> RewardClient:
        """The server of REWARD_DISTILLER_URL, with the token in REWARD_DISTILLER_TOKEN where that is set."""
        base = os.environ.get(URL)
        if not base:
            raise ConfigError(f"the environment variable {URL} is not set. Set it to http://HOST:PORT of the server")
        return cls(base.rstrip("/") + path, TOKEN if os.environ.get(TOKEN) else None, **options)

    def close(self) -> None:
        self._client.close()

    @cached_property
    def _client(self) -> httpx.Client:
        return httpx.Client(**self._options)

    def rewards(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """Raw rewards of responses to one prompt: a text, or messages that end with the user's turn."""
        return [
            value for body, count in self._bodies(prompt, responses) for value in self._numbers(self.post(body), count)
        ]

    async def rewards_of_rows(self, rows: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        """The same for several prompts at once, from an event loop."""
        async with httpx.AsyncClient(**self._options) as client:

            async def row(prompt: Prompt, responses: Sequence[str]) -> list[float]:
                bodies = self._bodies(prompt, responses)
                answers = await asyncio.gather(*(self._apost(client, body) for body, _ in bodies))
                return [v for (_, count), a in zip(bodies, answers, strict=True) for v in self._numbers(a, count)]

            try:
                async with asyncio.TaskGroup() as group:  # an error of one ends all
                    tasks = [group.create_task(row(*each)) for each in rows]
            except ExceptionGroup as found:
                raise found.exceptions[0] from None
            return [task.result() for task in tasks]

    def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """One request's answer, a JSON object, after as many tries as patience allows."""
        tries = _Tries(self.patience)
        while True:
            reply: httpx.Response | httpx.RequestError
            try:
                reply = self._client.post(self.url, json=body)
            except httpx.RequestError as error:
                reply = error
            found = self._look(reply, tries)
            if isinstance(found, dict):
                return found
            time.sleep(found)

    async def _apost(self, client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        tries = _Tries(self.patience)
        while True:
            reply: httpx.Response | httpx.RequestError
            try:
                reply = await client.post(self.url, json=body)
            except httpx.RequestError as error:
                reply = error
            found = self._look(reply, tries)
            if isinstance(found, dict):
                return found
            await asyncio.sleep(found)

    def _bodies(self, prompt: Prompt, responses: Sequence[str]) -> list[tuple[dict[str, Any], int]]:
        """What to send, and how many rewards each brings."""
        if self.url.endswith("/v1/rewards"):
            said = prompt if isinstance(prompt, str) else list(prompt)
            return [({"prompt": said, "responses": list(responses)}, len(responses))]
        if self.url.endswith("/get_reward"):
            raise ConfigError(f"{self.url} takes rendered chats. Name /v1/rewards or /classify")
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        chats = ([*messages, {"role": "assistant", "content": text}] for text in responses)
        return [({"messages": chat, "use_activation": False}, 1) for chat in chats]

    def _look(self, reply: httpx.Response | httpx.RequestError, tries: _Tries) -> dict[str, Any] | float:
        """The answer, or how long to wait before the next try. Raises EndpointError where none would help."""
        if isinstance(reply, httpx.RequestError):
            problem = f"{type(reply).__name__} {reply}".strip()
            wait = None if isinstance(reply, NEVER_SENT) else tries.next(None)
        elif reply.status_code == 200:
            return self._object(reply)
        else:
            problem, wait = _problem(reply), None
            tries.failed += reply.status_code == 500
            if reply.status_code in BUSY or (reply.status_code == 500 and tries.failed < FAILED_TRIES):
                wait = tries.next(reply.headers.get("Retry-After"))
        if wait is None:
            raise EndpointError(f"{self.url}: {problem}. Check that the server runs there and serves a reward model")
        return wait

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise EndpointError(f"{self.url}: the answer is no JSON object. Check the URL")
        return body

    def _numbers(self, body: dict[str, Any], count: int) -> list[float]:
        values = body.get("rewards")
        if self.url.endswith("/classify"):
            data = body.get("data")
            first = data[0] if isinstance(data, list) and len(data) == 1 else None
            probs = first.get("probs") if isinstance(first, dict) else None
            values = probs[-1:] if isinstance(probs, list) else None
        return finite(values, count, self.url)


def finite(values: Any, count: int, where: str) -> list[float]:
    """Values that are a list of so many finite numbers. Raises EndpointError for anything else."""
    if not isinstance(values, list) or len(values) != count or not all(map(_finite, values)):
        raise EndpointError(f"{where}: {count} finite rewards were asked for, got {values!r:.80}")
    return [float(value) for value in values]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _problem(answer: httpx.Response) -> str:
    try:
        said = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        said = None
    return f"status {answer.status_code}" + (f" ({said[:300]})" if isinstance(said, str) else "")


class _Tries:
    """The waits between the tries of one request."""

    def __init__(self, patience: float):
        self.end = time.monotonic() + patience
        self.made = self.failed = 0

    def next(self, asked: str | None) -> float | None:
        """Seconds until the next try; None where patience ends before."""
        self.made += 1
        try:
            seconds = max(0.0, float(asked or "")) * random.uniform(1.0, 1.5)
        except ValueError:
            seconds = 0.25 * 2 ** min(self.made, 4) * random.uniform(0.5, 1.5)
        seconds = min(LONGEST_WAIT, seconds)
        return seconds if time.monotonic() + seconds < self.end else None
