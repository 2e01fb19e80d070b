"""A section of the report: markup, and what the page must carry for it. Knows no runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Section:
    """`html` stands in the page as it is: made by us, every text of a run in it escaped.

    The page holds each distinct `script` and `style` once, however many sections bring it. `files` are script files by
    name, to lie in a folder beside the page: a page opened from disk can load scripts, and cannot fetch.
    """

    id: str
    title: str
    html: str
    script: str = ""
    style: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
