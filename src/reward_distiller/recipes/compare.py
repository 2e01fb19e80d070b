"""Recipe `compare`: one run's config in several arms and seeds, side by side, in one table.

An arm is a name and the changes it makes to the config. Every arm and seed is a run in the store, made by a command of
its own and not made again while nothing that it came from has changed; what runs stand on is made before them. Writes
results.json, table.md, plot.svg and, of policies, curves.svg. Knows no methods and no algorithms: what an arm changes
is the config's business. Any run whose results.json has figures will do.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.config import BASE, AnyRun, Comparison, Config, load_run, parse_run
from reward_distiller.console import say
from reward_distiller.errors import ConfigError, MissingExtra, RewardDistillerError, RunFailed
from reward_distiller.evaluate.plots import check_plots, plot_curves, plot_intervals
from reward_distiller.files import locked, write_json, write_text
from reward_distiller.methods import method_named
from reward_distiller.model.loading import device_of
from reward_distiller.recipes.comparison_curves import training_curves
from reward_distiller.recipes.comparison_figures import (
    compared_metric,
    panels,
    run_entry,
    shown_metrics,
    with_pairs,
    with_summaries,
)
from reward_distiller.recipes.comparison_table import table
from reward_distiller.recipes.made import job_of, jobs_below
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.side_by_side import run_side_by_side
from reward_distiller.recipes.store import Store
from reward_distiller.recipes.whole_runs import check_run
from reward_distiller.yaml_text import apply_override


@dataclass(frozen=True)
class Run:
    """One arm at one seed; runs of equal keys are the same run."""

    arm: str
    seed: int
    config: AnyRun
    key: str

    @property
    def title(self) -> str:
        return f"{self.arm}, seed {self.seed}"


def planned(comparison: Comparison, store: Store) -> list[Run]:
    """All runs, seed by seed. Raises ConfigError, before anything runs, for an arm that makes no config."""
    bases: dict[str | None, dict[str, Any]] = {None: _base(comparison, None)}
    runs = []
    for seed in comparison.seeds:
        for arm, changes in comparison.arms.items():
            own = next((change.removeprefix(BASE) for change in changes if change.startswith(BASE)), None)
            base = bases.setdefault(own, _base(comparison, own)) if own not in bases else bases[own]
            changes = [change for change in changes if not change.startswith(BASE)]
            config = _arm_config(base, arm, changes, seed, comparison.store_path)
            key = store.key(config)
            runs.append(Run(arm, seed, config.model_copy(update={"output": str(store.place(key))}), key))
    return runs


def missing(runs: Sequence[Run], store: Store) -> list[Run]:
    """Of the runs that are not there yet, one of each key."""
    first = {run.key: run for run in reversed(runs)}
    return [run for run in runs if first[run.key] is run and store.results(run.key, run.config) is None]


def compare(comparison: Comparison, parts_of: Callable[[AnyRun], Parts]) -> dict[str, Any]:
    """Make the runs that are missing; write and give what results.json holds."""
    store = Store(comparison.store_path)
    runs = planned(comparison, store)
    with locked(Path(comparison.output) / ".lock", ConfigError):
        no_plot = _no_plot()
        to_do = missing(runs, store)
        say(f"{len({r.key for r in runs})} runs, {len(to_do)} to do")
        if to_do:
            _check(runs, to_do, comparison.seeds[0], parts_of)
            processes = comparison.processes or _processes([run.config for run in to_do])
            jobs = jobs_below([run.config for run in to_do], store)
            jobs += [job_of(run.title, run.key, run.config, store) for run in to_do]
            run_side_by_side(jobs, processes)
        results = _collected(comparison, runs, store)
        _write(Path(comparison.output), results, draw=not no_plot)
        if no_plot:
            say(f"no plot.svg: {no_plot}")
        return results


def _base(comparison: Comparison, own: str | None) -> dict[str, Any]:
    """What the base and its changes say, as it was written; of an arm's own base where it has one."""
    _check_own("changes", comparison.changes, ("seed", "output"))
    base = own or comparison.base
    if isinstance(base, str):
        return load_run(base, comparison.changes).given
    data = {"output": comparison.output, **copy.deepcopy(base)}
    for change in comparison.changes:
        apply_override(data, change)
    return parse_run(data, "base").given


def _arm_config(base: dict[str, Any], arm: str, changes: Sequence[str], seed: int, store: Path) -> AnyRun:
    """The config of one run, its output still that of the base."""
    where = f"arm {arm!r}"
    _check_own(where, changes, ("seed", "output", "ledger", "store"))
    data = copy.deepcopy(base)
    with _named(where):
        for change in changes:
            apply_override(data, change)
    own = {"seed": seed, "store": str(store)}
    if data.get("recipe", "reward_model") in ("reward_model", "pseudo_rewards"):
        own["ledger"] = data.get("ledger") or str(store / "ledger.sqlite")
    config = parse_run({**data, **own}, where)
    if isinstance(config, Config):
        with _named(where):
            method_named(config.method).plan(config)
    return config


def _check_own(where: str, changes: Sequence[str], own: Sequence[str]) -> None:
    for change in changes:
        name = change.partition("=")[0]
        if name in own:
            raise ConfigError(f"{where}: {name} is set for the whole comparison. Take out {change!r}")


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Errors say where they come from."""
    try:
        yield
    except RewardDistillerError as error:
        error.args = (f"{where}: {error}",)
        raise


def _check(runs: Sequence[Run], to_do: Sequence[Run], seed: int, parts_of: Callable[[AnyRun], Parts]) -> None:
    """Find out before the first run what would stop an arm that has runs to do, at the first seed."""
    keys = {run.key for run in to_do}
    arms = {run.arm for run in runs if run.key in keys}
    first = {run.key: run for run in runs if run.seed == seed and run.arm in arms}
    for run in first.values():
        parts = parts_of(run.config)
        with _named(f"arm {run.arm!r}"):
            check_run(run.config, parts)


def _processes(configs: Sequence[AnyRun]) -> int:
    """As many as there are cores for; one where a run takes the cores or an accelerator for itself."""
    takes = [each for config in configs for each in config.computing]
    if any(threads is None or device_of(device).type != "cpu" for threads, device in takes):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max((threads or 1 for threads, _ in takes), default=1))


def _collected(comparison: Comparison, runs: Sequence[Run], store: Store) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for run in runs:
        found = store.results(run.key, run.config)
        if found is None:
            raise RunFailed(run.title, 1, f"{store.place(run.key)} holds no results, or another config's")
        entry = {"key": run.key, "folder": str(store.place(run.key)), **run_entry(found)}
        arm = arms.setdefault(
            run.arm,
            {
                "changes": comparison.arms[run.arm],
                **_described(run.config),
                "runs": {},
            },
        )
        arm["runs"][str(run.seed)] = {**entry, "train_seconds": store.train_seconds(run.key)}
    return {
        "recipe": comparison.recipe,
        "seeds": comparison.seeds,
        "columns": shown_metrics(arms, comparison.columns),
        "compare_on": compared_metric(arms, comparison.compare_on),
        "arms": with_summaries(arms),
        "pairs": with_pairs(arms, comparison.pairs),
    }


def _described(config: AnyRun) -> dict[str, Any]:
    if isinstance(config, Config):
        return {"method": config.method, "teacher": config.teacher.model if config.teacher else None}
    return {"title": config.title}


def _no_plot() -> str | None:
    """Why none can be drawn, said before the runs start."""
    try:
        check_plots()
    except MissingExtra as error:
        say(f"plot.svg will be left out: {error}")
        return str(error)
    return None


def _write(output: Path, results: dict[str, Any], *, draw: bool) -> None:
    write_json(output / "results.json", results)
    write_text(output / "table.md", table(results))
    if draw and (drawn := panels(results)):
        plot_intervals(output / "plot.svg", drawn)
    if draw and (drawn_curves := training_curves(results)):
        plot_curves(output / "curves.svg", drawn_curves, "step")
