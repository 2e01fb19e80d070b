"""`reward-distiller compare`: one config, several arms and seeds, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.cli.options import AsJson, Overrides, show
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import AnyRun, Comparison, load_comparison
from reward_distiller.recipes import compare as recipe
from reward_distiller.recipes.comparison_table import table
from reward_distiller.recipes.store import Store
from reward_distiller.testbed.parts import TestbedParts


def parts_of(config: AnyRun) -> TestbedParts:
    return TestbedParts(config.testbed, config.seed)


def compare(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of a comparison")],
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say which runs are there and which are to do")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a config once for each arm and seed, and compare them in OUTPUT/table.md.

    Example: reward-distiller compare configs/compare-ultrafeedback.yaml 'seeds=[0,1]'
    """
    comparison = load_comparison(config, overrides or [])
    if dry_run:
        return _show_dry_run(Store(comparison.store_path), comparison, as_json)
    results = recipe.compare(comparison, parts_of)
    show(results, f"{table(results)}\nresults: {Path(comparison.output) / 'results.json'}", as_json)
    report_at_end(comparison.output)


def _show_dry_run(store: Store, comparison: Comparison, as_json: bool) -> None:
    runs = recipe.planned(comparison, store)
    to_do = {run.key for run in recipe.missing(runs, store)}
    rows = [
        {"arm": run.arm, "seed": run.seed, "done": run.key not in to_do, "run": str(store.place(run.key))}
        for run in runs
    ]
    width = max(len(run.arm) for run in runs) + 2
    lines = [f"{'arm':<{width}}{'seed':>6}  {'':<7}  run"]
    for row in rows:
        lines.append(f"{row['arm']:<{width}}{row['seed']:>6}  {'done' if row['done'] else 'to do':<7}  {row['run']}")
    show(rows, "\n".join(lines), as_json)
