"""`reward-distiller quarantine`: answers that could not be read, and reading them again at no cost."""

from __future__ import annotations

from typing import Annotated

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.lazy import Described
from reward_distiller.cli.options import Overrides
from reward_distiller.config import load_config
from reward_distiller.recipes import quarantine as recipe
from reward_distiller.teacher.endpoint import printable

app = typer.Typer(cls=Described, no_args_is_help=True, help="Answers that could not be read.")
SHOWN = 300  # characters of an answer


@app.command("list")
def list_command(folder: Annotated[str, typer.Argument(metavar="RUN", help="run folder")]) -> None:
    """What could not be read, by step, model and reason, with an answer of each.

    Example: reward-distiller quarantine list runs/mine
    """
    groups = recipe.listed(folder)
    for group in groups:
        typer.echo(f"{group.count:>7}  {group.step}, {printable(group.model)}: {printable(group.reason)}")
        typer.echo(f"         records {', '.join(map(printable, group.records))}")
        for answer in group.answers[:1]:
            typer.echo(f"         {printable(answer[:SHOWN])}")
    typer.echo(f"{sum(group.count for group in groups)} records without a usable answer")


@app.command()
def reparse(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="the run's YAML file, such as its config.yaml")],
    overrides: Overrides = None,
) -> None:
    """Read the ledger's answers again with the parsers of today, and write the run's pairs anew. Makes no call.

    Example: reward-distiller quarantine reparse runs/mine/config.yaml
    """
    settings = load_config(config, overrides or [])
    done = recipe.reparse(settings, parts_of(settings))
    for step in sorted(done.before | done.after):
        typer.echo(f"{step}: {done.before[step]} unreadable before, {done.after[step]} now")
    typer.echo(f"{done.pairs} pairs: {settings.output}/pairs.jsonl")
