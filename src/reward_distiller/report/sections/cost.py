"""What was asked of chat models, by step and model, and what it cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from reward_distiller.report.markup import joined, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.text import count, spent

NUMBERS = ("calls", "input_tokens", "output_tokens")
HEADS = ["step", "model", "answers", "input tokens", "output tokens", "price"]


def cost(run: Run) -> Section | None:
    if run.kind == "compare":
        return _of_arms(run)
    rows: Sequence[dict[str, Any]] = run.results.get("cost") or []
    if not rows:
        return None
    note = "Answers that an earlier run had bought are counted: this is what the run would cost without them."
    several = any("run" in row for row in rows)
    cells = [[*([str(row.get("run", "–"))] if several else []), *_row(row)] for row in rows]
    heads = ["run", *HEADS] if several else HEADS
    html = joined(
        paragraph(f"Together: {spent(rows)}."),
        table("Calls by step and model", heads, cells, texts=3 if several else 2),
        paragraph(_unknown(rows)),
        paragraph(note),
    )
    return Section("cost", "What it cost", html)


def _row(row: dict[str, Any]) -> list[str]:
    money = "unknown" if row["money"] is None else f"{row['money']:.4f}"
    return [str(row["step"]), str(row["model"]), *(count(row[n]) for n in NUMBERS), money]


def _unknown(rows: Sequence[dict[str, Any]]) -> str:
    silent = sum(row.get("without_usage") or 0 for row in rows)
    said = "Every answer came with its tokens."
    if silent:
        said = f"{silent:,} answers came without their tokens, which are in no sum."
    if any(row["money"] is None for row in rows):
        said += " Where a price is unknown the config gives none, or the tokens are not known."
    return said


def _of_arms(run: Run) -> Section | None:
    """Medians over the seeds of each arm."""
    rows = []
    for arm, entry in run.results["arms"].items():
        found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for made in entry["runs"].values():
            for row in made["cost"]:
                found[str(row["step"]), str(row["model"])].append(row)
        for (step, model), own in found.items():
            known = [row["money"] for row in own if row["money"] is not None]
            money = f"{median(known):.4f}" if len(known) == len(own) else "unknown"
            rows.append([arm, step, model, *(count(median(row[n] for row in own)) for n in NUMBERS), money])
    if not rows:
        return None
    note = "Medians over seeds. What arms and seeds share was bought once, so their sum is more than was paid."
    html = joined(table("Calls by arm, step and model", ["arm", *HEADS], rows, texts=3), paragraph(note))
    return Section("cost", "What it cost", html)
