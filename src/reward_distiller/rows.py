"""Rows from files, the Hub or at hand, and the fields of one row, with errors that say where they stand.

A field that cannot be what it should be (wrong type, missing) is an error that names file, row, field and mend.
Knows no pairs and no benchmarks.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from pydantic import ValidationError

from reward_distiller.config import DataSource
from reward_distiller.errors import ConfigError, DataError, MissingExtra
from reward_distiller.files import Row, read_rows
from reward_distiller.records import Message, Prompt, canonical_json

Rows = Iterable[tuple[int, Row]]


class Fields:
    """One row's values under our names, with errors that say where they stand."""

    def __init__(self, where: str, number: int, row: Row, columns: dict[str, str]):
        self.where, self.number, self.row, self.columns = where, number, row, columns

    def get(self, name: str) -> Any:
        """The value of a field, or None where the row has none; dots in a column reach into objects and lists."""
        value: Any = self.row
        for part in self.columns.get(name, name).split("."):
            if isinstance(value, list) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value

    def require(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise self.wrong(name, "missing", f"Add it, or map it: columns.{name}=THEIR_COLUMN")
        return value

    def wrong(self, name: str, problem: str, mend: str) -> DataError:
        return DataError(self.where, problem, row=self.number, field=self.columns.get(name, name), mend=mend)

    def prompt(self) -> Prompt:
        value = self.require("prompt")
        if isinstance(value, str):
            messages: list[Any] = [{"role": "user", "content": value}]
        elif isinstance(value, list) and value:
            messages = [_known_roles(m) for m in value]
        else:
            raise self.wrong(
                "prompt", f"{_kind(value)}, not text or a list of messages", 'Write "..." or [{role, content}]'
            )
        system = self.text("system")
        if system and system.strip() and _first_role(messages) != "system":
            messages = [{"role": "system", "content": system}, *messages]
        try:
            turns = tuple(Message.model_validate(m) for m in messages)
        except ValidationError as error:
            at = ".".join(map(str, error.errors()[0]["loc"]))
            raise self.wrong(
                "prompt", f"not a message: {at} {error.errors()[0]['msg']}", "Write {role: user, content: text}"
            ) from error
        if turns[-1].role != "user":
            raise self.wrong("prompt", f"ends with a turn of {turns[-1].role!r}", "End it with the user's turn")
        self._clean("prompt", "".join(m.content for m in turns))
        return Prompt.of(turns)

    def response(self, name: str) -> str:
        """Text, or a conversation whose last message is the assistant's (TRL's conversational format)."""
        value = self.require(name)
        if isinstance(value, list) and value and isinstance(value[-1], dict):
            last = _known_roles(value[-1])
            if last.get("role") != "assistant":
                raise self.wrong(
                    name, f"ends with a turn of {last.get('role')!r:.40}", "End it with the assistant's turn"
                )
            value = last.get("content")
        if not isinstance(value, str):
            raise self.wrong(
                name, f"{_kind(value)}, not text", 'Write "..." or [{"role": "assistant", "content": "..."}]'
            )
        return self._clean(name, value)

    def score(self, name: str) -> float | None:
        value = self.get(name)
        return None if value is None else self._number(name, value)

    def attributes(self, name: str) -> dict[str, float] | None:
        """Scores by attribute. An attribute without a value is none: Parquet fills up objects with these."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, f"{_kind(value)}, not an object of numbers", "Write {attribute: score}")
        return {self._clean(name, k): self._number(name, v) for k, v in value.items() if v is not None}

    def text(self, name: str) -> str | None:
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, f"{_kind(value)}, not text", "Write text, or leave it out")
        return self._clean(name, value) if value else None

    def texts(self, name: str) -> list[str]:
        value = self.require(name)
        if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in value):
            raise self.wrong(name, "not a list of texts", 'Write ["...", "..."]')
        return [self._clean(name, text) for text in value]

    def plain(self, name: str) -> dict[str, Any]:
        """An object that can be written as JSON; anything that is no object counts as none."""
        value = self.get(name)
        if not isinstance(value, dict):
            return {}
        try:
            canonical_json(value).encode("utf-8")
        except (TypeError, ValueError) as error:
            raise self.wrong(name, f"cannot be written as JSON ({error})", "Write text and finite numbers") from error
        return value

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
            raise self.wrong(name, f"{value!r:.60} is not a score", "Write a finite number")
        return float(value)

    def _clean(self, name: str, text: str) -> str:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self.wrong(name, f"holds half a character ({error.reason})", "Save it as valid Unicode") from error
        return text


def rows_of(
    source: DataSource, testbed_rows: Rows | None = None, seed: int = 0
) -> tuple[str, Iterator[tuple[int, Row]]]:
    """The name of a source and its rows, `limit` of them. Rows of the testbed are handed in."""
    if source.testbed is not None:
        if testbed_rows is None:
            raise ConfigError("the testbed's data is only there when the command line hands it in")
        name, rows = "testbed", iter(testbed_rows)
    elif source.hub is not None:
        name, rows = source.hub, _hub_rows(source)
    else:
        name, rows = str(source.file), read_rows(source.file)
    if source.shuffle:
        order = list(rows)
        random.Random(f"rows:{seed}").shuffle(order)
        rows = iter(order)
    if source.limit is None:
        return name, rows
    return name, islice(rows, source.limit)  # reads no row beyond, which may be malformed


def _hub_rows(source: DataSource) -> Iterator[tuple[int, Row]]:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "hub") from error
    try:
        data = datasets.load_dataset(source.hub, source.subset, split=source.split)
    except (OSError, ValueError, ConnectionError) as error:
        raise DataError(
            source.hub or "", f"cannot be loaded from the Hub ({error})", mend="Check id and split"
        ) from error
    yield from enumerate(data, 1)


def _known_roles(message: Any) -> Any:
    """Messages in ShareGPT's layout ({from: human|gpt|system, value: text}) as {role, content}; others as they are."""
    if not isinstance(message, dict):
        return message
    roles = {"human": "user", "gpt": "assistant"}
    if "from" in message and "value" in message:
        role = message["from"]
        return {"role": roles.get(role, role) if isinstance(role, str) else role, "content": message["value"]}
    return {k: v for k, v in message.items() if k in ("role", "content")}


def _first_role(messages: list[Any]) -> Any:
    return messages[0].get("role") if isinstance(messages[0], dict) else None


def _kind(value: Any) -> str:
    return {"list": "a list", "dict": "an object", "NoneType": "nothing"}.get(type(value).__name__, f"{value!r:.40}")
