"""A reward server over HTTP as a scorer. The end of its URL says which format it speaks (`rewards/client.py`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.answers import Answer, Rewards
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.rewards.client import AT_ONCE, RewardClient


class RewardEndpoint:
    """Rewards from a server. `token_env` names the environment variable with its bearer token."""

    def __init__(self, url: str, token_env: str | None = None, patience: float = 60.0):
        if not url.rstrip("/").endswith(("/v1/rewards", "/classify")):
            raise ConfigError(f"{url}: end it with /v1/rewards, or with /classify for a model that vLLM serves")
        self._client = RewardClient(url, token_env, patience)

    def __enter__(self) -> RewardEndpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def identity(self) -> dict[str, Any]:
        return {"endpoint": self._client.url}

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            waiting = [pool.submit(self._client.rewards, e.prompt.as_dicts(), e.responses) for e in examples]
            answers: list[Answer] = []
            for example, future in zip(examples, waiting, strict=True):
                answers.append(Rewards(tuple(future.result())))
                for _ in example.responses:
                    advance()
            return answers
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, those that wait are not sent
