"""The pair browser: a run's pairs in the page, to be searched, sorted and read side by side.

The section's markup is the same for every run; what a run wrote is in it as compressed data only, and becomes text in
the reader's browser, never markup. Knows no other section.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from reward_distiller.report.browser_data import Embedded, embed
from reward_distiller.report.browser_pairs import shown_pairs
from reward_distiller.report.section import Section

BUDGET = 20_000_000  # bytes of data in the page, which is to stay under 25 MB with everything else in it
SCRIPTS = ("browser_text.js", "browser_tokens.js", "browser.js")
DATA = "application/octet-stream;base64"


def browser(run_folder: Path) -> Section | None:
    """The section, or None for a run that has no pairs or wants none in its report.

    Raises DataError for a file of the run that is not what a run writes.
    """
    pairs = shown_pairs(run_folder)
    if not pairs:
        return None
    embedded = embed(pairs, BUDGET)
    html = _asset("browser.html").replace("<!-- note -->", _note(embedded, scored=any(p.rewards for p in pairs)))
    return Section("pairs", "Pairs", html + _elements(embedded), _script(), _asset("browser.css"))


def _note(embedded: Embedded, *, scored: bool) -> str:
    """What a reader must know of these pairs; figures and our own words only."""
    notes = [f"{embedded.pairs:,} pairs."]
    if embedded.left_out:
        notes.append(
            f"{embedded.left_out:,} more are in pairs.jsonl alone, since their texts would make this page too large: "
            "those that reward model and teacher disagree least on."
        )
    if not scored:
        notes.append("The run kept no rewards of them: run it again to have them here.")
    return " ".join(notes)


def _elements(embedded: Embedded) -> str:
    parts = [("index", embedded.index), *(("block", block) for block in embedded.blocks)]
    return "\n".join(f'<script type="{DATA}" data-pairs="{kind}">{data}</script>' for kind, data in parts)


def _script() -> str:
    """All of it in a scope of its own."""
    return '(() => {\n"use strict";\n' + "\n".join(map(_asset, SCRIPTS)) + "})();"


def _asset(name: str) -> str:
    return (resources.files("reward_distiller.report") / "assets" / name).read_text("utf-8")
