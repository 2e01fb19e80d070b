"""`reward-distiller push`: a run's model, and its pairs, to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.cli.options import AsJson, show
from reward_distiller.recipes.publishing import planned, publish


def push(
    run: Annotated[str, typer.Argument(metavar="RUN_DIR", help="a finished run's folder")],
    model: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME of the model")],
    data: Annotated[str | None, typer.Option(metavar="REPO", help="OWNER/NAME of a data set for the pairs")] = None,
    license: Annotated[str | None, typer.Option(metavar="ID", help="of the model, as the Hub names it")] = None,
    data_license: Annotated[str | None, typer.Option(metavar="ID", help="of the pairs")] = None,
    private: Annotated[bool, typer.Option("--private", help="repositories that are made are private")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="send it; without, only say what would be sent")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish a run's model, with its card, on the Hub; with --data its pairs, too. Sends nothing without --yes.

    Example: reward-distiller push runs/mine me/my-reward-model --data me/my-pairs --license apache-2.0
    """
    publication = planned(Path(run), model, data, license, data_license)
    results = {"repositories": [each.as_dict() for each in publication.repositories], "stays": publication.stays}
    results["sent"] = publish(publication, private) if yes else []
    lines = [line for each in publication.repositories for line in each.lines()]
    lines.append(f"stays here: {', '.join(publication.stays)}")
    show(results, "\n".join([*lines, "sent" if yes else "nothing is sent. Add --yes to publish"]), as_json)
