"""`reward-distiller testbed ...`: the miniature world's own commands."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from reward_distiller.cli.lazy import Described
from reward_distiller.errors import ConfigError
from reward_distiller.testbed.batches import FAULTS as BATCH_FAULTS
from reward_distiller.testbed.faults import FAULTS
from reward_distiller.testbed.server import serve_forever

app = typer.Typer(cls=Described, no_args_is_help=True, rich_markup_mode=None, help="The built-in miniature world.")


@app.callback()
def testbed() -> None:
    """The built-in miniature world."""


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="on 127.0.0.1; 0 finds a free one")] = 8000,
    latency: Annotated[float, typer.Option(min=0, help="seconds before each answer")] = 0.0,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME=RATE", help=f"may be repeated; names: {', '.join(FAULTS)}")
    ] = None,
    hang_seconds: Annotated[float, typer.Option(min=0, help="how long a hanging request stays open")] = 30.0,
    api_key_env: Annotated[str | None, typer.Option(help="environment variable with the key to ask for")] = None,
    batch_looks: Annotated[int, typer.Option(min=0, help="how often a batch is looked at before it has ended")] = 0,
    batch_fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help=f"of the next batch; names: {', '.join(BATCH_FAULTS)}")
    ] = None,
) -> None:
    """Serve the scripted teacher and candidates in OpenAI's format, misbehaving as often as you say.

    GET /testbed/written tells how many answers it has written in full.

    Example: reward-distiller testbed serve --port 8000 --fault 429=0.1 --fault reset=0.05
    """
    api_key = os.environ.get(api_key_env) if api_key_env else None
    if api_key_env and not api_key:
        raise ConfigError(f"the environment variable {api_key_env} is not set. Set it, then run again")
    rates = dict(_rate(text) for text in fault or [])
    serve_forever(
        port,
        api_key=api_key,
        latency=latency,
        faults=rates,
        hang_seconds=hang_seconds,
        batch_looks=batch_looks,
        batch_faults=batch_fault or (),
    )


def _rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    try:
        return name, float(rate)
    except ValueError as error:
        raise ConfigError(f"--fault {text!r}: write it as NAME=RATE, for example 429=0.1") from error
