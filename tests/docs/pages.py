"""What the tests of the guide read of its pages: their code blocks, headings and links."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.rglob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "AGENTS", "CONTRIBUTING", "CHANGELOG")),
]
_FENCE = re.compile(r"^( *)(```+)(\{?\w*\}?)[^\n]*\n(.*?)^\1\2 *$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One block of code: its language ("" for an indented one), its text, and where it begins."""

    language: str
    text: str
    at: int


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[Block]:
    """Fenced and indented ones, in their order."""
    text = path.read_text("utf-8")
    fenced = [Block(m[3], textwrap.dedent(m[4]), m.start()) for m in _FENCE.finditer(text)]
    indented = re.finditer(r"(?:(?<=\n\n)|\A)(?:    [^\n]*\n|\n(?=    ))+", without_fences(text))
    return sorted(
        [*fenced, *(Block("", textwrap.dedent(m[0]), m.start()) for m in indented)], key=lambda block: block.at
    )


def without_fences(text: str) -> str:
    """The same length, so that places stay."""
    return _FENCE.sub(lambda m: re.sub(r"[^\n]", "x", m[0]), text)


def prose(path: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"(?<=\n\n)(?:    [^\n]*\n)+", "", _FENCE.sub("", path.read_text("utf-8")))


def anchors(path: Path) -> set[str]:
    """The names that GitHub and MyST give to the headings of a page."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#* *$", _FENCE.sub("", path.read_text("utf-8")), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower().replace("`", "")).replace(" ", "-")
        name, n = slug, 0
        while name in found:
            n += 1
            name = f"{slug}-{n}"
        found.add(name)
    return found
