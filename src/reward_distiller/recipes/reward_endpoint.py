"""A reward server over HTTP as a scorer. The end of its URL says which format it speaks.

    .../v1/rewards   {"prompt": messages, "responses": [text, ...]} -> {"rewards": [number, ...]}      (ours)
    .../classify     {"messages": messages with the response, "use_activation": false} -> {"data": [{"probs": [...]}]}
                     (vLLM's, for a classifier with one label: the raw reward is the last of `probs`)

A server that is busy (429, 503) or gone is asked again; one that answers with anything but as many finite numbers as
there are responses is an error.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import httpx

from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.evaluate.answers import Answer, Rewards
from reward_distiller.evaluate.benchmarks.protocol import Example

AT_ONCE = 16  # requests under way: enough for a server that batches, few enough for one that does not
ATTEMPTS = 6
BUSY = (408, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT = 60.0  # seconds, whatever a server asks for


class RewardEndpoint:
    """Rewards from a server. `token_env` names the environment variable with its bearer token."""

    def __init__(self, url: str, token_env: str | None = None, timeout: float = 300.0):
        self.url = url.rstrip("/")
        self.classifies = self.url.endswith("/classify")
        if not self.classifies and not self.url.endswith("/v1/rewards"):
            raise ConfigError(f"{url}: end it with /v1/rewards, or with /classify for a model that vLLM serves")
        headers = {}
        if token_env:
            token = os.environ.get(token_env)
            if not token:
                raise ConfigError(f"the environment variable {token_env} is not set. Set it, then run again")
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx.Client(headers=headers, timeout=timeout, limits=httpx.Limits(max_connections=AT_ONCE))

    def __enter__(self) -> RewardEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def identity(self) -> dict[str, Any]:
        return {"endpoint": self.url}

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            waiting = [pool.submit(self._rewards, example) for example in examples]
            answers: list[Answer] = []
            for example, future in zip(examples, waiting, strict=True):
                answers.append(Rewards(tuple(future.result())))
                for _ in example.responses:
                    advance()
            return answers
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, those that wait are not sent

    def _rewards(self, example: Example) -> list[float]:
        messages = example.prompt.as_dicts()
        if not self.classifies:
            body = self._post({"prompt": messages, "responses": list(example.responses)})
            return self._numbers(body.get("rewards"), len(example.responses))
        rewards = []
        for text in example.responses:
            body = self._post(
                {"messages": [*messages, {"role": "assistant", "content": text}], "use_activation": False}
            )
            data = body.get("data")
            first = data[0] if isinstance(data, list) and len(data) == 1 else None
            probs = first.get("probs") if isinstance(first, dict) else None
            rewards += self._numbers(probs[-1:] if isinstance(probs, list) else None, 1)
        return rewards

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = self._client.post(self.url, json=body)
            except httpx.HTTPError as error:
                problem, wait = f"{type(error).__name__} {error}".strip(), None
            else:
                if answer.status_code == 200:
                    return self._object(answer)
                problem, wait = f"status {answer.status_code}", answer.headers.get("Retry-After")
                if answer.status_code not in BUSY:
                    break
            if attempt < ATTEMPTS:
                time.sleep(_seconds(wait, attempt))
        raise EndpointError(f"{self.url}: {problem}. Check that the server runs there and serves a reward model")

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise EndpointError(f"{self.url}: the answer is no JSON object. Check the URL")
        return body

    def _numbers(self, values: Any, count: int) -> list[float]:
        if not isinstance(values, list) or len(values) != count or not all(map(_finite, values)):
            raise EndpointError(f"{self.url}: {count} finite rewards were asked for, got {values!r:.80}")
        return [float(value) for value in values]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(asked: str | None, attempt: int) -> float:
    try:
        return min(LONGEST_WAIT, max(0.0, float(asked or "")))
    except ValueError:
        return min(LONGEST_WAIT, 0.5 * 2**attempt)
