"""Bradley-Terry and RM-Distiller on one config, side by side: what `make demo` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reward_distiller.config import Config
from reward_distiller.files import write_json
from reward_distiller.recipes.arms import run_arms
from reward_distiller.recipes.parts import Parts

METHODS = ("bradley_terry", "rm_distiller")
COLUMNS = ("easy", "normal", "hard", "average")


def demo(config: Config, parts: Parts, output: Path) -> str:
    """Run both methods into OUTPUT/seed-N, write OUTPUT/results.json, and give the table to print."""
    arms = {method: [f"method={method}"] for method in METHODS}
    entries = run_arms(config, parts, arms, output / f"seed-{config.seed}")["arms"]
    results = {method: entries[method]["results"] for method in METHODS}
    figures = {m: {c: r["testbed"][c]["value"] for c in COLUMNS} for m, r in results.items()}
    model = results[METHODS[-1]]["model"]
    write_json(output / "results.json", {"seed": config.seed, "methods": figures, "model": model})
    return f"{table(results)}\n\nreward model: {model}"


def table(results: dict[str, Any]) -> str:
    """Accuracies in percent, the average with its 95% interval over test prompts."""
    lines = [f"{'method':<15}" + "".join(f"{c:>9}" for c in COLUMNS) + "   95% interval"]
    for method, result in results.items():
        figures = result["testbed"]
        cells = "".join(f"{figures[c]['value']:>9.1f}" for c in COLUMNS)
        lines.append(f"{method:<15}{cells}   {figures['average']['low']:.1f} to {figures['average']['high']:.1f}")
    return "\n".join(lines)
