"""OpenAI's batch API at one endpoint: files in and out, batches created, looked at, found again and cancelled.

Every call is made again where the server may take it another time. Creating a batch is made again only when no batch of
that mark is found: it costs money. Knows no ledger and no questions.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from reward_distiller.config import ChatModel
from reward_distiller.errors import EndpointError
from reward_distiller.teacher.batch_lines import URL
from reward_distiller.teacher.endpoint import Overloaded, Refused, accept, printable
from reward_distiller.teacher.http_client import HttpClient, Retry, backoff

WINDOW = "24h"  # the only one that the API knows
MARK = "reward_distiller"  # the field of a batch's metadata that holds our mark
FINAL = ("completed", "failed", "expired", "cancelled")
PAGE, MOST_PAGES = 100, 100  # of batches to look for a mark in, newest first
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A batch as its server describes it. `files` hold what is done of it; `problem` says why it failed as a whole."""

    id: str
    status: str
    files: tuple[str, ...]
    problem: str

    @property
    def ended(self) -> bool:
        return self.status in FINAL


class BatchApi:
    """Raises EndpointError where the endpoint cannot be used, or has failed `retries` times in a row."""

    def __init__(self, place: ChatModel, first_backoff: float = 0.5):
        self.place, self._first_backoff = place, first_backoff
        self._http = HttpClient()

    async def close(self) -> None:
        await self._http.close()

    async def upload(self, lines: bytes) -> str:
        """The id of a file of requests. One that is uploaded twice costs nothing."""

        async def once() -> str:
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", lines, filename="requests.jsonl", content_type="application/jsonl")
            return _id_of(await self._json("POST", "files", form))

        return await self._again(once)

    async def create(self, file: str, mark: str) -> Remote:
        """A batch of a file's requests, once: where nobody knows whether it was created, it is looked for."""
        body = {
            "input_file_id": file,
            "endpoint": URL,
            "completion_window": WINDOW,
            "metadata": {MARK: mark},
        }
        tried = False

        async def once() -> Remote:
            nonlocal tried
            if tried and (found := await self.find(mark)):
                return found
            tried = True
            return await self._batch("POST", "batches", body)

        return await self._again(once)

    async def get(self, id_: str) -> Remote:
        return await self._again(lambda: self._batch("GET", f"batches/{id_}"))

    async def cancel(self, id_: str) -> Remote:
        return await self._again(lambda: self._batch("POST", f"batches/{id_}/cancel", {}))

    async def content(self, file: str) -> bytes:
        return await self._again(lambda: self._bytes("GET", f"files/{file}/content"))

    async def find(self, mark: str) -> Remote | None:
        """The batch of a mark, among the newest PAGE * MOST_PAGES."""
        after: str | None = ""
        for _ in range(MOST_PAGES):
            found, after = await self._again(lambda start=after: self._page(start, mark))  # type: ignore[misc]
            if found or not after:
                return found
        return None

    async def _page(self, after: str, mark: str) -> tuple[Remote | None, str | None]:
        """The batch of a mark on one page of the list, and where the next page begins."""
        page = await self._json("GET", f"batches?limit={PAGE}{f'&after={after}' if after else ''}")
        rows = page.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Retry("a list of batches that is none")
        for row in rows:
            if isinstance(metadata := row.get("metadata"), dict) and metadata.get(MARK) == mark:
                return _remote(row), None
        return None, _id_of(rows[-1]) if rows and page.get("has_more") else None

    @property
    def _where(self) -> str:
        return f"model {self.place.model!r} at {self.place.base_url}"

    async def _again(self, once: Callable[[], Awaitable[T]]) -> T:
        for failures in range(1, self.place.retries + 2):
            try:
                return await once()
            except Refused as error:
                raise EndpointError(f"{self._where}: batches: {error}. Does it know OpenAI's batch API?") from error
            except Retry as error:
                last = error
                after = error.after if isinstance(error, Overloaded) else None
                pause = backoff(self._first_backoff, failures)
                if failures <= self.place.retries:
                    await asyncio.sleep(pause if after is None else after)
        raise EndpointError(f"{self._where}: batches: {last}, {failures} attempts. Run again: nothing is bought twice")

    async def _bytes(self, method: str, path: str, data: Any = None) -> bytes:
        return accept(self.place, await self._http.request(self.place, method, path, data))

    async def _batch(self, method: str, path: str, data: Any = None) -> Remote:
        return _remote(await self._json(method, path, data))

    async def _json(self, method: str, path: str, data: Any = None) -> dict[str, Any]:
        body = await self._bytes(method, path, data)
        try:
            said = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Retry(f"no JSON from {path.partition('?')[0]}") from error
        if not isinstance(said, dict):
            raise Retry(f"no object from {path.partition('?')[0]}")
        return said


def _id_of(said: dict[str, Any]) -> str:
    if not _is_id(id_ := said.get("id")):
        raise Retry(f"an object without an id that fits a path: {printable(str(id_))[:100]}")
    return str(id_)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\w.-]+", value) is not None and value.strip(".") != ""


def _remote(said: dict[str, Any]) -> Remote:
    status, errors = said.get("status"), said.get("errors")
    if not isinstance(status, str):
        raise Retry("a batch without a status")
    files = tuple(str(said[field]) for field in ("output_file_id", "error_file_id") if _is_id(said.get(field)))
    listed = errors.get("data") if isinstance(errors, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    problem = str(first.get("message") or "") if isinstance(first, dict) else ""
    return Remote(_id_of(said), status, files, printable(problem)[:300])
