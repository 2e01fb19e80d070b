"""Bradley-Terry and RM-Distiller on the testbed, side by side: what `make demo` runs, and how it shows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reward_distiller.config import AnyRun, Comparison
from reward_distiller.recipes.compare import compare
from reward_distiller.recipes.comparison_table import table as comparison_table
from reward_distiller.recipes.parts import Parts

COLUMNS = ("easy", "normal", "hard", "average")


def demo(comparison: Comparison, parts_of: Callable[[AnyRun], Parts]) -> str:
    """Run the comparison, and give its first seed as a table to print. The last arm's reward model is named."""
    results = compare(comparison, parts_of)
    arms = results["arms"]
    runs = {name: next(iter(arm["runs"].values())) for name, arm in arms.items()}
    model = Path(list(runs.values())[-1]["folder"]) / "model"
    whole = all(f"testbed.{c}" in run["figures"] for run in runs.values() for c in COLUMNS)
    return f"{table(runs) if whole else comparison_table(results)}\n\nreward model: {model}"


def table(runs: dict[str, Any]) -> str:
    """Accuracies in percent, the average with its 95% interval over test prompts."""
    lines = [f"{'method':<15}" + "".join(f"{c:>9}" for c in COLUMNS) + "   95% interval"]
    for name, run in runs.items():
        figures = {c: run["figures"][f"testbed.{c}"] for c in COLUMNS}
        cells = "".join(f"{figures[c]['value']:>9.1f}" for c in COLUMNS)
        lines.append(f"{name:<15}{cells}   {figures['average']['low']:.1f} to {figures['average']['high']:.1f}")
    return "\n".join(lines)
