"""Construction by several workers: each asks for its share of the prompts through a ledger of its own; all ledgers are
then merged by key, and the pairs are constructed from the whole as if one process had asked.

The ledger is the only state, so a worker that dies goes on where its ledger ends, and a run that is started again first
takes in what earlier workers have left. Who runs the workers is handed in (`ray_workers.py`, or this process). All need
the run folder and the input files under the same path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from reward_distiller.config import Caps, Config
from reward_distiller.console import say
from reward_distiller.construct.shares import Share
from reward_distiller.errors import BudgetReached, ConfigError, RewardDistillerError, RunFailed
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_model import (
    Constructed,
    asked_models,
    construct_into,
    construction_of,
    read_inputs,
)
from reward_distiller.teacher.budget import Budget
from reward_distiller.teacher.cost import Cost
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.ledger import Ledger
from reward_distiller.teacher.ledger_batches import batches
from reward_distiller.teacher.ledger_merge import merge
from reward_distiller.teacher.spending import budget_of

FOLDER = "shards"  # in the run folder: the workers' ledgers


@dataclass(frozen=True)
class Job:
    """What every worker knows. It travels to other machines, so it holds nothing that is open."""

    config: Config
    parts_of: Callable[[Config], Parts]
    folder: Path  # the working folder, which relative paths start from
    shards: int
    caps: Caps  # of one share

    def ledger(self, number: int) -> Path:
        return _folder(self.config) / f"ledger-{number}-of-{self.shards}.sqlite"


@dataclass(frozen=True)
class Done:
    """What became of a share: calls that were sent by who finished it, or the error that ended it."""

    number: int
    sent: int
    exit_code: int = 0
    said: str = ""


Workers = Callable[[Job], Iterable[Done]]  # runs `work` for each number of a job, wherever


def construct_sharded(
    folder: Path, config: Config, parts_of: Callable[[Config], Parts], shards: int, workers: Workers
) -> Constructed:
    """Write pairs.jsonl, balance.json and quarantine.jsonl, as `construct_into` does.

    Raises RunFailed with the first worker's error, once what all have bought is in the run's ledger.
    """
    parts = parts_of(config)
    read_inputs(config, parts)  # what is wrong is found before anything is started
    for model in asked_models(config, parts):
        if model.launch:
            raise ConfigError(
                f"model {model.model!r}: launch would start a server for each share. Start servers, and list them in "
                "base_url and endpoints"
            )
    _take_in(config)
    job = Job(config, parts_of, Path.cwd(), shards, _share_of_caps(config, parts, shards))
    failed: list[Done] = []
    for done in workers(job):
        say(f"share {done.number + 1} of {shards}: {done.said or f'{done.sent} calls sent'}")
        if done.exit_code:
            failed.append(done)
    _take_in(config)
    if failed:
        first = failed[0]
        raise RunFailed(f"share {first.number + 1} of {shards}", first.exit_code, first.said)
    return construct_into(folder, config, parts)


def work(job: Job, number: int) -> Done:
    """Ask for all that a share needs. Errors that a user can mend come back as what was said."""
    try:
        os.chdir(job.folder)
        return Done(number, _ask(job, Share(number, job.shards)))
    except RewardDistillerError as error:
        return Done(number, 0, error.exit_code, str(error))
    except FileNotFoundError as error:
        return Done(
            number, 0, ConfigError.exit_code, f"{error.filename} is not there: all nodes need the run's folders"
        )


def in_this_process(job: Job) -> Iterator[Done]:
    """The shares one after the other."""
    for number in range(job.shards):
        yield work(job, number)


def _ask(job: Job, share: Share) -> int:
    """The calls that were sent."""
    # A share alone says little of how many calls fail: that is judged when all are in.
    annotation = job.config.annotation.model_copy(update={"allowed_failures": 1.0})
    config = job.config.model_copy(update={"annotation": annotation})
    parts = job.parts_of(config)
    inputs = read_inputs(config, parts)
    inputs = replace(inputs, prompts=share.prompts(inputs.prompts), labeled=share.pairs(inputs.labeled))
    past = config.ledger_path if config.ledger_path.is_file() else None
    ledger = job.ledger(share.number)
    with open_engine(ledger, parts.transports, job.caps, asked_models(config, parts), past=past) as engine:
        _, steps = construction_of(config, parts, inputs, engine)
        steps()
        return engine.bought


def _folder(config: Config) -> Path:
    return Path(config.output) / FOLDER


def _take_in(config: Config) -> None:
    """Merge what workers have left into the run's ledger, and remove it there. Raises LedgerError."""
    left = sorted(_folder(config).glob("*.sqlite")) if _folder(config).is_dir() else []
    with Ledger.open(config.ledger_path) as ledger:
        for path in left:
            with Ledger.open(path):  # nobody writes it any more
                pass
            merge(ledger, path)
        if any(batch.ended is None for batch in batches(ledger)):
            raise ConfigError(
                f"{config.ledger_path} has batches that are not answered yet, and shares would hand them over again. "
                "First run `reward-distiller batch collect` until none is open"
            )
    for path in left:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


def _share_of_caps(config: Config, parts: Parts, shards: int) -> Caps:
    """What one share may spend, so that all together stay below the budget's caps. Raises BudgetReached."""
    caps = config.budget
    if caps == Caps():
        return caps
    with Ledger.read(config.ledger_path) as ledger:
        budget: Budget = budget_of(ledger, caps, asked_models(config, parts))
    spent: Cost = budget.spent
    left = {
        "money": None if caps.money is None else float(caps.money) - float(spent.money or 0),
        "tokens": None if caps.tokens is None else caps.tokens - spent.tokens,
        "calls": None if caps.calls is None else caps.calls - spent.calls,
    }
    for name, amount in left.items():
        if amount is not None and amount <= 0:
            raise BudgetReached(name, getattr(caps, name), spent=getattr(spent, name), needed=0)
    return Caps(
        money=None if left["money"] is None else left["money"] / shards,
        tokens=None if left["tokens"] is None else int(left["tokens"]) // shards,
        calls=None if left["calls"] is None else int(left["calls"]) // shards,
    )
