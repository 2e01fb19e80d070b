"""`reward-distiller demo`: the whole method on the built-in testbed."""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.options import Overrides
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import load_comparison
from reward_distiller.recipes import demo as recipe


def demo(
    seed: Annotated[int, typer.Option(help="decides prompts, draws and training order")] = 0,
    output: Annotated[str, typer.Option(help="run folder")] = "runs/demo",
    overrides: Overrides = None,
) -> None:
    """Distil on the built-in testbed with Bradley-Terry and with RM-Distiller, and compare them.

    Example: reward-distiller demo --seed 1
    """
    own = [f"output={output}", f"seeds=[{seed}]", f"changes={json.dumps(overrides or [])}"]
    with resources.as_file(resources.files("reward_distiller.testbed")) as folder:
        comparison = load_comparison(folder / "demo-compare.yaml", own)
        typer.echo(recipe.demo(comparison, parts_of))
    report_at_end(output)
