"""`reward-distiller init`: a commented config to start from."""

from __future__ import annotations

from typing import Annotated

import typer

from reward_distiller.errors import ConfigError
from reward_distiller.recipes.cases import CASES, write_case


def init(
    case: Annotated[str | None, typer.Argument(metavar="[CASE]", help=", ".join(CASES))] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="file that is not there")] = None,
) -> None:
    """Write a commented config for a case; without one, list the cases. What is yours to fill in is marked.

    Example: reward-distiller init openai -o mine.yaml
    """
    if case is None:
        width = max(map(len, CASES)) + 2
        for name, said in CASES.items():
            typer.echo(f"{name:<{width}}{said}")
        return
    if output is None:
        raise ConfigError(f"name a file to write: reward-distiller init {case} -o FILE")
    write_case(case, output)
    typer.echo(f"{output}: fill in the lines with `# yours`, then reward-distiller doctor {output}")
