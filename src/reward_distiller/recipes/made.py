"""The runs that other runs stand on (`made_by`): made in the store, in child processes, each when it can be."""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.config import AnyRun, dump_yaml
from reward_distiller.files import write_text
from reward_distiller.recipes.side_by_side import Job, run_side_by_side
from reward_distiller.recipes.store import Store

COMMANDS = {"rl": "rl"}  # of the other recipes: run


def make(config: AnyRun, store: Store) -> None:
    """Make all runs that this one stands on and that the store does not have."""
    run_side_by_side(jobs_below([config], store), 1)


def jobs_below(configs: Sequence[AnyRun], store: Store) -> list[Job]:
    """What is missing of all that these runs stand on, first what most stands on."""
    found: list[Job] = []  # a run may be at several depths: its deepest place counts
    below = {store.key(c): c for config in configs for c in _stood_on(config, store)}
    while below:
        missing = {key: config for key, config in below.items() if store.results(key, config) is None}
        if missing:
            found = [job_of(title_of(config), key, config, store) for key, config in missing.items()] + found
        below = {store.key(c): c for config in missing.values() for c in _stood_on(config, store)}
    return list({job.folder: job for job in found}.values())


def _stood_on(config: AnyRun, store: Store) -> list[AnyRun]:
    return [store.made(made) for made in config.made.values()]


def title_of(config: AnyRun) -> str:
    return f"{config.title}, seed {config.seed}"


def job_of(title: str, key: str, config: AnyRun, store: Store) -> Job:
    """A run of the store as a command; its config is written beside its folder."""
    place = store.place(key)
    job = Job(
        title,
        place,
        (COMMANDS.get(config.recipe, "run"), f"{place}.yaml"),
        lambda: store.results(key, config) is not None,
        frozenset(store.place(store.key(below)) for below in _stood_on(config, store)),
    )
    write_text(job.beside(".yaml"), dump_yaml(config))
    return job
