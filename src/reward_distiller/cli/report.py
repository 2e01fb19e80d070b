"""`reward-distiller report`: a run folder as one page; and the page that other commands end with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.console import say
from reward_distiller.errors import MissingExtra
from reward_distiller.processes import has_siblings, is_main
from reward_distiller.report.page import write_report


def report(
    folder: Annotated[str, typer.Argument(metavar="RUN_DIR", help="output of run, train, compare, evaluate or rl")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="default: report.html in RUN_DIR")
    ] = None,
) -> None:
    """Write a run's report: one page that needs nothing but a browser.

    Example: reward-distiller report runs/demo -o demo.html
    """
    typer.echo(f"report: {write_report(Path(folder), Path(output) if output else None)}")


def report_at_end(folder: str | Path) -> None:
    """The report of a run that has ended well. Where none can be made, one line says why, and the run is what it is.

    Runs that another command has started get none: whoever wants it asks for it.
    """
    if has_siblings() or not is_main():
        return
    try:
        say(f"report: {write_report(Path(folder))}")
    except MissingExtra as error:
        say(f"no report.html: {error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, the run before it was a success
        said = " ".join(str(error).split()) or type(error).__name__
        say(f"no report.html: {said}")
