"""Rows that a run writes while it computes them, each under a `key`, so that a killed one goes on. Knows no row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from reward_distiller.console import say

T = TypeVar("T")


def kept(file: Path, read: Callable[[dict[str, Any]], T], again: str) -> dict[str, T]:
    """What an earlier run has written, by key, up to where it was cut off. `again` says what becomes of the rest.

    `read` makes a value of a row, and raises ValueError, KeyError or TypeError where it cannot.
    """
    found: dict[str, T] = {}
    if not file.is_file():
        return found
    for line in file.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            found[str(row["key"])] = read(row)
        except (ValueError, KeyError, TypeError):
            say(f"{file}: a line that cannot be read is left out; {again}")
    return found
