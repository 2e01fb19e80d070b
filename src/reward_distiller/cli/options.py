"""Arguments and options that several commands share, and how results are shown: as text, or as JSON for scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="changes to the config")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on stdout, all else on stderr")]

Preview = Annotated[
    int | None,
    typer.Option("--preview", metavar="N", min=1, help="only show what a judge would be asked of the first N"),
]


def show(results: Any, text: str, as_json: bool) -> None:
    """On stdout: the results as they stand in results.json, or the text."""
    typer.echo(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) if as_json else text)


def show_folder(output: str, as_json: bool) -> None:
    """Of a folder with results.json and table.md."""
    results = Path(output) / "results.json"
    if as_json:
        typer.echo(results.read_text("utf-8"), nl=False)
    else:
        typer.echo(f"{(Path(output) / 'table.md').read_text('utf-8')}\nall figures: {results}")
