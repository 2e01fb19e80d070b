"""HTTP as calls need it: one request to one server, its whole reply, or whether it may have been taken all the same.

On aiohttp: with 256 connections its requests take a tenth of the time that httpx's do (docs/results.md). Where a server
is, which key it wants and which proxy stands before it come from the config, or the usual environment variables for
proxies; a .netrc is not read. Knows nothing of what is sent and of what a status means.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from reward_distiller.config import ChatModel
from reward_distiller.errors import EndpointError
from reward_distiller.records import canonical_json

# Seconds. A server closes idle connections after 5 (uvicorn, so vLLM) or more; a request that meets the closing end is
# lost, and nobody can tell whether it was taken.
KEEP_ALIVE = 4.0
LONGEST_BACKOFF = 60.0  # seconds
UNSENT = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)


class Retry(Exception):
    """This attempt brought nothing, another may: a server's error, a broken connection, a time-out.

    `reached`: whether the server said anything. `lost`: whether it may have written an answer that did not arrive, and
    may bill it.
    """

    def __init__(self, reason: str, *, reached: bool = True, lost: bool = False):
        super().__init__(reason)
        self.reached, self.lost = reached, lost


def backoff(first: float, failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling from the first, with chance in it, and with an end."""
    return min(first * 2 ** (failures - 1), LONGEST_BACKOFF) * random.uniform(0.5, 1.5)


@dataclass(frozen=True)
class Reply:
    """What a server said. `headers` take a name in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class _Route(NamedTuple):
    """How a path of a place is reached. It holds the place, whose id names it as long as it lives."""

    place: ChatModel
    url: URL
    headers: dict[str, str]
    json_headers: dict[str, str]
    proxy: str | None


class HttpClient:
    """Requests within one event loop, over connections that are kept alive. `close` ends them."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._routes: dict[tuple[int, str], _Route] = {}

    async def request(self, place: ChatModel, method: str, path: str, data: Any = None) -> Reply:
        """`path` follows the place's base_url; `data` is an object for JSON, or a form.

        Raises Retry, and EndpointError where no request can be made at all.
        """
        as_json = data is not None and not isinstance(data, aiohttp.FormData)
        try:
            route = self._routes.get((id(place), path)) or self._route(place, path)
            async with (
                asyncio.timeout(place.timeout),  # of the whole reply; aiohttp's would count what waits too
                self._opened().request(
                    method,
                    route.url,
                    data=canonical_json(data).encode() if as_json else data,
                    headers=route.json_headers if as_json else route.headers,
                    proxy=route.proxy,
                    allow_redirects=False,
                ) as response,
            ):
                body = await response.read()
                return Reply(response.status, response.headers, body)
        except TimeoutError as error:
            reason = f"no whole answer within {place.timeout:g} s at {place.base_url}"
            raise Retry(reason, reached=False, lost=True) from error
        except aiohttp.InvalidURL as error:
            raise EndpointError(f"model {place.model!r}: base_url {place.base_url!r} is not a URL ({error})") from error
        except (aiohttp.ClientError, OSError) as error:
            unsent = isinstance(error, UNSENT)
            # A proxy's address may hold a password, and the errors of proxies quote it.
            said = "" if place.proxy or isinstance(error, aiohttp.ClientHttpProxyError) else f": {error}"
            reason = f"{type(error).__name__} at {place.base_url}{said}"
            raise Retry(reason, reached=not unsent, lost=not unsent) from error
        except ValueError as error:  # a header that no wire can hold; its message may quote the key
            raise Retry(
                f"{type(error).__name__} at {place.base_url}: check headers and headers_env", reached=False
            ) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # it would read .netrc for each request
            )
        return self._session

    def _route(self, place: ChatModel, path: str) -> _Route:
        """Found out once. Raises EndpointError, ValueError for a URL that is none."""
        url = URL(f"{place.base_url.rstrip('/')}/{path}").update_query(place.query)
        headers = _headers_of(place)
        json_headers = {"Content-Type": "application/json", **headers}
        route = self._routes[id(place), path] = _Route(place, url, headers, json_headers, _proxy_of(place))
        return route


def _proxy_of(place: ChatModel) -> str | None:
    """Raises EndpointError for what is no proxy's URL; it may hold a password, so it is not shown."""
    proxy = place.proxy or _proxy_of_environment(place.base_url)
    if proxy is not None and not _is_http(proxy):
        where = "`proxy`" if place.proxy else "the environment's proxy"
        raise EndpointError(f"model {place.model!r}: {where} is no http(s) URL. Mend it")
    return proxy


def _headers_of(place: ChatModel) -> dict[str, str]:
    headers = {**place.headers, **{name: os.environ[env] for name, env in place.headers_env.items()}}
    if place.api_key_env:
        headers["Authorization"] = f"Bearer {os.environ[place.api_key_env]}"
    return headers


def _proxy_of_environment(base_url: str) -> str | None:
    parts, proxies = urlsplit(base_url), getproxies()
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
