"""All checks in their order: the machine first, then what a config and the runs that it stands on need of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reward_distiller.config import AnyRun, Config, RLConfig
from reward_distiller.errors import RewardDistillerError
from reward_distiller.recipes.doctor.endpoints import check_endpoints
from reward_distiller.recipes.doctor.extras import check_extras
from reward_distiller.recipes.doctor.findings import Finding, problem
from reward_distiller.recipes.doctor.machine import check_machine
from reward_distiller.recipes.doctor.places import check_data, check_output
from reward_distiller.recipes.doctor.runs import runs_of
from reward_distiller.recipes.doctor.student import check_policy, check_student


def diagnose(config: AnyRun | None = None) -> Iterator[Finding]:
    """Findings as they are made; those that runs share once."""
    yield from check_machine(Path(config.output if config else "."))
    if config is None:
        yield from check_extras([])
        return
    try:
        runs = runs_of(config)
    except RewardDistillerError as error:
        yield problem("made_by", str(error))
        runs = [config]
    yield from check_extras(runs)
    yield from dict.fromkeys(finding for run in runs for finding in _of_run(run))
    yield from check_output(config)


def _of_run(run: AnyRun) -> Iterator[Finding]:
    yield from check_endpoints(run)
    yield from check_data(run)
    if isinstance(run, Config):
        yield from check_student(run)
    elif isinstance(run, RLConfig):
        yield from check_policy(run)
