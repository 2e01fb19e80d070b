"""`reward-distiller batch ...`: calls that were handed over to a batch API, between two runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from reward_distiller.cli.lazy import Described
from reward_distiller.config import ChatModel, Config, load_config
from reward_distiller.errors import ConfigError
from reward_distiller.teacher import batch_tending
from reward_distiller.teacher.ledger import Ledger, require_file
from reward_distiller.teacher.ledger_batches import Batch, batches
from reward_distiller.teacher.ledger_report import text_table

app = typer.Typer(cls=Described, no_args_is_help=True, rich_markup_mode=None)

Run = Annotated[str, typer.Argument(metavar="CONFIG", help="the run's YAML file, such as its config.yaml")]


@app.callback()
def batch() -> None:
    """Calls that were handed over to a batch API."""


@app.command("list")
def list_command(file: Annotated[str, typer.Argument(metavar="LEDGER", help="in a run folder, ledger.sqlite")]) -> None:
    """Every batch of a ledger: where it is, how many calls it holds, and how it stood when it was last looked at.

    Example: reward-distiller batch list runs/mine/ledger.sqlite
    """
    with Ledger.read(file) as ledger:
        typer.echo(_table(batches(ledger)))


@app.command()
def collect(config: Run) -> None:
    """Take in the results of batches that have ended, without waiting for the others.

    Example: reward-distiller batch collect runs/mine/config.yaml
    """
    settings = load_config(config)
    require_file(settings.ledger_path)
    with Ledger.open(settings.ledger_path) as ledger:
        typer.echo(_table(batch_tending.collect(ledger, _models(settings))))


@app.command()
def cancel(
    config: Run,
    batch_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="one batch; without it, all open ones")] = None,
) -> None:
    """End batches at the server. What is done of them is billed, and taken in when they have ended.

    Example: reward-distiller batch cancel runs/mine/config.yaml
    """
    settings = load_config(config)
    require_file(settings.ledger_path)
    with Ledger.open(settings.ledger_path) as ledger:
        typer.echo(_table(batch_tending.cancel(ledger, _models(settings), batch_id)))


def _models(settings: Config) -> list[ChatModel]:
    """Those that answer in batches. Raises ConfigError where none does."""
    models = [m for m in settings.chat_models if m.batch]
    if not models:
        raise ConfigError("no model of this config answers in batches. Set `batch` where the run had it")
    return models


def _table(found: Sequence[Batch]) -> str:
    if not found:
        return "no batches"
    rows = [["batch", "model", "status", "hours old", "calls", "waiting"]]
    for one in found:
        age = f"{(time.time() - one.started) / 3600:.1f}"
        status = one.status if one.ended else f"{one.status}, open"
        rows.append([one.remote or "(no id)", one.model, status, age, str(one.calls), str(one.waiting)])
    return text_table(rows)
