"""The batch API of the testbed's server: files, and batches of requests that are answered at once when they end.

A batch is looked at `looks` times before it has ended, and each of its lines then meets the server's faults as a direct
request would: one that would not have come whole has no line. What can go wrong with a batch as a whole is in FAULTS.
Results come in another order than they were asked for, as they do at OpenAI. Knows no HTTP.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.message import Message
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.records import canonical_json
from reward_distiller.testbed.faults import error_reply
from reward_distiller.testbed.wire import Reply, Request

FAULTS = (
    "expire",  # half of the lines were not answered within the day
    "fail",  # refused as a whole when it is validated
    "lose",  # one answered line in three is not in the results
    "repeat",  # every line of the results is there twice, and one is nobody's
    "cut",  # the first download of each file of results ends in the middle of a line
    "deaf",  # it is created, and the client hears HTTP 500
)
PATHS = ("/v1/files", "/v1/batches")
Answering = Callable[[bytes], Reply | None]  # of a line's body; None where there is silence


@dataclass
class _Batch:
    said: dict[str, Any]
    lines: list[dict[str, Any]]
    fault: str | None
    looks: int = 0
    cancelled: bool = False


@dataclass
class BatchDesk:
    """`faults` befall the first batches, one each in their order. `created` counts the batches, lost answers' too."""

    answer: Answering
    bill: Callable[[bytes], None]  # told of each answered body
    looks: int = 0
    faults: Iterable[str] = ()
    created: int = 0
    _files: dict[str, bytes] = field(default_factory=dict)
    _cut: set[str] = field(default_factory=set)
    _batches: dict[str, _Batch] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._faults = iter(check_names(self.faults))

    def reply(self, request: Request) -> Reply:
        path, _, query = request.path.partition("?")
        parts = path.strip("/").split("/")[1:]
        match request.method, *parts:
            case "POST", "files":
                return self._upload(request)
            case "GET", "files", name, "content" if name in self._files:
                return self._download(name)
            case "POST", "batches":
                return self._create(request.body)
            case "GET", "batches":
                return self._list(dict(part.split("=", 1) for part in query.split("&") if "=" in part))
            case "GET", "batches", name if name in self._batches:
                return _json(self._look(self._batches[name]))
            case "POST", "batches", name, "cancel" if name in self._batches:
                return self._cancel(self._batches[name])
        return error_reply(404, f"there is no {request.method} {path}")

    def _upload(self, request: Request) -> Reply:
        content = _file_of(request)
        if content is None:
            return error_reply(400, "no form with a `file` and the purpose batch")
        return _json({"id": self._keep(content), "object": "file", "bytes": len(content), "purpose": "batch"})

    def _keep(self, content: bytes) -> str:
        name = f"file-{len(self._files) + 1}"
        self._files[name] = content
        return name

    def _download(self, name: str) -> Reply:
        content = self._files[name]
        if name in self._cut:
            self._cut.discard(name)
            content = content[: len(content) * 2 // 3]
        return Reply(200, content, "application/octet-stream")

    def _create(self, body: bytes) -> Reply:
        try:
            asked = json.loads(body)
            content = self._files[asked["input_file_id"]]
            metadata = asked.get("metadata") or {}
            lines = [json.loads(line) for line in content.splitlines()]
            names = {line["custom_id"] for line in lines}
            bodies = [line["body"] for line in lines]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            return error_reply(400, f"this batch cannot be made: {error}")
        if len(names) < len(lines) or not bodies:
            return error_reply(400, "no lines, or a custom_id that is there twice")
        self.created += 1
        name = f"batch_{self.created}"
        said = {"id": name, "object": "batch", "status": "validating", "metadata": metadata}
        self._batches[name] = batch = _Batch(said, lines, next(self._faults, None))
        if batch.fault == "deaf":
            return error_reply(500, "a fault that was asked for")
        return _json(said)

    def _list(self, query: dict[str, str]) -> Reply:
        newest = [batch.said for batch in reversed(self._batches.values())]
        if after := query.get("after"):
            newest = list(itertools.islice(itertools.dropwhile(lambda said: said["id"] != after, newest), 1, None))
        limit = int(query.get("limit", 20))
        return _json({"object": "list", "data": newest[:limit], "has_more": len(newest) > limit})

    def _cancel(self, batch: _Batch) -> Reply:
        if "output_file_id" not in batch.said:
            batch.cancelled = True
            batch.said["status"] = "cancelling"
        return _json(batch.said)

    def _look(self, batch: _Batch) -> dict[str, Any]:
        batch.looks += 1
        if "output_file_id" in batch.said or batch.said["status"] == "failed":
            return batch.said
        if batch.fault == "fail":
            errors = {"data": [{"code": "invalid", "message": "a fault that was asked for"}]}
            return batch.said | self._ended(batch, "failed", errors=errors)
        if batch.looks <= self.looks and not batch.cancelled:
            batch.said["status"] = "in_progress"
            return batch.said
        half = batch.lines[: len(batch.lines) // 2]
        if batch.cancelled:
            return self._finish(batch, half, "cancelled")
        if batch.fault == "expire":
            return self._finish(batch, half, "expired")
        return self._finish(batch, batch.lines, "completed")

    def _finish(self, batch: _Batch, lines: list[dict[str, Any]], status: str) -> dict[str, Any]:
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for number, line in enumerate(lines):
            body = canonical_json(line["body"]).encode()
            reply = self.answer(body)
            if reply is None or reply.broken_at is not None:
                continue
            if reply.status == 200:
                self.bill(body)
            if batch.fault == "lose" and number % 3 == 0:
                continue
            (good if reply.status == 200 else bad).append(_result(line["custom_id"], reply))
        for line in batch.lines[len(lines) :]:
            error = {"code": f"batch_{status}", "message": "not answered in time"}
            bad.append({"custom_id": line["custom_id"], "response": None, "error": error})
        if batch.fault == "repeat":
            nobodys = {"custom_id": "nobody", "response": {"status_code": 200, "body": {}}, "error": None}
            good, bad = [*good, nobodys, *good], [*bad, *bad]
        files = {name: self._keep(_jsonl(rows, batch.looks)) for name, rows in (("output", good), ("error", bad))}
        if batch.fault == "cut":
            self._cut |= set(files.values())
        counts = {"total": len(batch.lines), "completed": len(good), "failed": len(bad)}
        ids = {f"{name}_file_id": file for name, file in files.items()}
        return self._ended(batch, status, **ids, request_counts=counts)

    def _ended(self, batch: _Batch, status: str, **more: Any) -> dict[str, Any]:
        batch.said |= {"status": status, **more}
        return batch.said


def check_names(faults: Iterable[str]) -> list[str]:
    """Raises ConfigError for a name that is no fault of a batch."""
    names = list(faults)
    if unknown := sorted(set(names) - set(FAULTS)):
        raise ConfigError(f"batch fault {unknown[0]!r} is none of {', '.join(FAULTS)}")
    return names


def _result(custom_id: str, reply: Reply) -> dict[str, Any]:
    try:
        body = json.loads(reply.body)
    except ValueError:
        body = reply.body.decode("utf-8", "replace")
    return {"custom_id": custom_id, "response": {"status_code": reply.status, "body": body}, "error": None}


def _jsonl(rows: list[dict[str, Any]], seed: int) -> bytes:
    mixed = random.Random(seed).sample(rows, len(rows))
    return b"".join(json.dumps(row).encode() + b"\n" for row in mixed)


def _json(said: dict[str, Any]) -> Reply:
    return Reply(200, json.dumps(said).encode())


def _file_of(request: Request) -> bytes | None:
    """The `file` of a form for the purpose batch."""
    head = Message()
    head["content-type"] = request.headers.get("content-type", "")
    boundary = head.get_boundary()
    if not boundary:
        return None
    found: dict[str, bytes] = {}
    for part in request.body.split(b"--" + boundary.encode())[1:-1]:
        described, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        for name in ("purpose", "file"):
            if f'name="{name}"'.encode() in described:
                found[name] = content.removesuffix(b"\r\n")
    return found.get("file") if found.get("purpose") == b"batch" else None
