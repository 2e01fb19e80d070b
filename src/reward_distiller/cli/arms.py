"""`reward-distiller arms`: one config, several arms, one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.config import load_config
from reward_distiller.recipes.arms import load_arms, run_arms, table
from reward_distiller.testbed.parts import TestbedParts


def arms(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file")],
    arms_file: Annotated[str, typer.Option("--arms", help="YAML file: arm name -> list of key.sub=value")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="changes to the config, in all arms")
    ] = None,
) -> None:
    """Run a config once for each arm, into OUTPUT/ARM, and compare them in OUTPUT/table.md.

    Example: reward-distiller arms configs/ultrafeedback.yaml --arms configs/ablation-arms.yaml
    """
    settings = load_config(config, overrides or [])
    parts = TestbedParts(settings.testbed, settings.seed)
    results = run_arms(settings, parts, load_arms(arms_file), Path(settings.output))
    typer.echo(table(results))
