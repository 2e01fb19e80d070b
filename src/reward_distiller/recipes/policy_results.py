"""What an evaluation of policies leaves in its folder: results.json, table.md, quarantine.jsonl.

Knows neither benchmarks nor judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_distiller.evaluate.policy.protocol import PolicyFigures
from reward_distiller.evaluate.statistics import Figure
from reward_distiller.files import write_json, write_rows, write_text
from reward_distiller.recipes.evaluation_table import interval


def shown(found: PolicyFigures) -> dict[str, Any]:
    """Figures as results.json holds them; `percent` tells those in percent from those in their own unit."""
    figures = {name: {**one.as_dict(), "percent": isinstance(one, Figure)} for name, one in found.figures.items()}
    return {"figures": figures, "notes": list(found.notes), "details": dict(found.details)}


def write(output: Path, results: dict[str, Any], quarantine: Sequence[dict[str, Any]], table: str) -> None:
    """The raw answers that could not be read are there only where there are any."""
    (output / "quarantine.jsonl").unlink(missing_ok=True)
    if quarantine:
        write_rows(output / "quarantine.jsonl", quarantine)
    write_text(output / "table.md", table)
    write_json(output / "results.json", results)


def markdown(title: str, results: dict[str, Any], lines: Sequence[str]) -> str:
    """A figure a row, then `lines` and the notes."""
    rows = [f"## {title}", "", "| | value (95% interval) | n |", "|---|---:|---:|"]
    rows += [
        f"| {name} | {interval(one, 1 if one['percent'] else 3)} | {one['n']:,} |"
        for name, one in results["figures"].items()
    ]
    return "\n".join([*rows, "", *lines, *(f"Note: {note}." for note in results["notes"]), ""])
