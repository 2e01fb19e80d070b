"""The lines of OpenAI's batch files: what goes in, and what came back, in any order and as far as it is there.

A line is known by its `custom_id`, which is the key's hash: results are joined by it and never by their place. Knows
no network and no ledger.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reward_distiller.records import canonical_json
from reward_distiller.teacher.endpoint import wire_body

URL = "/v1/chat/completions"  # as the API names what the lines are for


@dataclass(frozen=True)
class Result:
    """One line: an HTTP status and the body that came with it, or the code of why there is none."""

    custom_id: str
    status: int | None
    body: bytes
    code: str = ""


class BrokenLine(ValueError):
    """A line that is no result: a file that was cut off, or a server that writes something else."""


def custom_id(key: str) -> str:
    """64 characters, which all servers take."""
    return key.rpartition(":")[2]


def request_line(key: str, request: dict[str, Any]) -> bytes:
    line = {"custom_id": custom_id(key), "method": "POST", "url": URL, "body": wire_body(request)}
    return canonical_json(line).encode() + b"\n"


def results(data: bytes) -> Iterator[Result | BrokenLine]:
    """The lines of an output or error file. A body is kept as JSON of the same value."""
    for line in data.split(b"\n"):  # no other line break: texts may hold them
        if line.strip():
            yield _result(line)


def _result(line: bytes) -> Result | BrokenLine:
    try:
        row = json.loads(line)
        name, response, error = row["custom_id"], row.get("response"), row.get("error")
        if not isinstance(name, str):
            raise TypeError("custom_id is no text")
        if response is None:
            return Result(name, None, b"", str((error or {}).get("code") or "no response"))
        status = response["status_code"]
        if type(status) is not int:
            raise TypeError("status_code is no number")
        return Result(name, status, json.dumps(response.get("body"), ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        return BrokenLine(f"{type(problem).__name__}: {problem}")
