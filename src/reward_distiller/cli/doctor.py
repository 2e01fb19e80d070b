"""`reward-distiller doctor`: what would stop a run, before it is started."""

from __future__ import annotations

from typing import Annotated

import typer

from reward_distiller.cli.options import AsJson, Overrides, show
from reward_distiller.config import load_run
from reward_distiller.console import colored
from reward_distiller.errors import ProblemsFound
from reward_distiller.recipes.doctor.diagnosis import diagnose

COLORS = {"warning": "yellow", "problem": "red"}


def doctor(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="YAML file of a run")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Look at the machine, and at all that a config needs of it. Sends no prompt, costs nothing, leaves nothing behind.

    Example: reward-distiller doctor configs/openai-teacher.yaml output=runs/mine
    """
    findings = []
    for finding in diagnose(load_run(config, overrides or []) if config else None):
        findings.append(finding)
        if not as_json:
            color = COLORS.get(finding.level)
            typer.echo(colored(finding.line, color) if color else finding.line)
    if as_json:
        show([finding.as_dict() for finding in findings], "", as_json)
    if problems := sum(finding.level == "problem" for finding in findings):
        raise ProblemsFound(f"{problems} {'problem' if problems == 1 else 'problems'} would stop a run")
