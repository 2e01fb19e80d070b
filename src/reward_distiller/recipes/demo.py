"""Two methods on one config, side by side: what `make demo` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reward_distiller.config import Config
from reward_distiller.console import say
from reward_distiller.files import write_json
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_model import run

METHODS = ("bradley_terry", "rm_distiller")
COLUMNS = ("easy", "normal", "hard", "average")


def demo(config: Config, parts: Parts, output: Path) -> str:
    """Run both methods into `output`, write results.json there, and give the table to print."""
    results: dict[str, Any] = {}
    for method in METHODS:
        say(f"== {method}")
        arm = config.model_copy(update={"method": method, "output": str(output / f"seed-{config.seed}" / method)})
        results[method] = run(arm, parts)
    model = results[METHODS[-1]]["model"]
    methods = {m: {c: r["testbed"][c]["value"] for c in COLUMNS} for m, r in results.items()}
    write_json(output / "results.json", {"seed": config.seed, "methods": methods, "model": model})
    return f"{table(results)}\n\nreward model: {model}"


def table(results: dict[str, Any]) -> str:
    """Accuracies in percent, the average with its 95% interval over test prompts."""
    lines = [f"{'method':<15}" + "".join(f"{c:>9}" for c in COLUMNS) + "   95% interval"]
    for method, result in results.items():
        figures = result["testbed"]
        cells = "".join(f"{figures[c]['value']:>9.1f}" for c in COLUMNS)
        lines.append(f"{method:<15}{cells}   {figures['average']['low']:.1f} to {figures['average']['high']:.1f}")
    return "\n".join(lines)
