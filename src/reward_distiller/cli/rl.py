"""`reward-distiller rl`: a policy trained with rewards."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.options import AsJson, Overrides, show
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import load_rl_config
from reward_distiller.recipes.policy import emit_for, run_policy
from reward_distiller.rl.emit import ENGINES


def rl(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of recipe rl")],
    overrides: Overrides = None,
    emit: Annotated[
        str | None,
        typer.Option(metavar="ENGINE", help=f"train nothing; write OUTPUT/ENGINE: {', '.join(ENGINES)}"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a policy: SFT on demonstrations, or GRPO, DAPO or PPO with rewards that add up.

    Example: reward-distiller rl configs/testbed-rl.yaml algorithm=dapo
    """
    settings = load_rl_config(config, overrides or [])
    if emit:
        files = [str(file) for file in emit_for(settings, parts_of(settings), emit)]
        return show(files, "\n".join(files), as_json)
    results = run_policy(settings, parts_of(settings))
    show(results, f"{_table(results)}\npolicy: {results['model']}", as_json)
    report_at_end(settings.output)


def _table(results: dict[str, Any]) -> str:
    """Figures of the policy and of the one that it started from, with their intervals over the evaluation prompts."""
    ours, theirs = results.get("policy") or {}, results.get("start") or {}
    if not ours:
        return "no evaluation.prompts, so there are no figures"
    lines = [f"{'':<16}{'policy':>28}{'at the start':>28}"]
    for name in ours:
        lines.append(f"{name:<16}" + "".join(f"{_interval(side[name]):>28}" for side in (ours, theirs)))
    lines.append(f"95% intervals over {ours['tokens']['n']} prompts; quality and repetition in percent, kl in nats")
    return "\n".join(lines)


def _interval(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"
