"""Every error that this package raises on purpose.

Three things can go wrong, and each is handled in its own way:

- *The user's input is wrong* (config, file, model). A `RewardDistillerError` says where, what and the
  mend; the command ends with the class's exit code and nothing half-written.
- *One call's answer is unusable*. That is data, not an error: it is quarantined and counted
  (`teacher.engine`), and no exception leaves the engine.
- *Calls can no longer be made* (bad key, server gone, budget spent, ledger locked, disk full). The command stops;
  what was answered stays in the ledger, so running it again goes on from there.

A new error is a subclass here with its own exit code; messages end with what to do next.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path


class RewardDistillerError(Exception):
    """Base of all of them. `exit_code` is what the command line ends with."""

    exit_code = 1


class ConfigError(RewardDistillerError):
    """A config file or an override that cannot be right: unknown key, wrong type, missing part."""

    exit_code = 2


class DataError(RewardDistillerError):
    """A file or a row that cannot be read as what it should be."""

    exit_code = 3

    def __init__(self, path: str | Path, problem: str, *, row: int | None = None, field: str | None = None, mend: str):
        where = str(path) + (f", row {row}" if row is not None else "") + (f", field {field!r}" if field else "")
        super().__init__(f"{where}: {problem}. {mend}")


class BenchmarkError(RewardDistillerError):
    """Rows that are not those of the benchmark that they are given as."""

    exit_code = 3


class EndpointError(RewardDistillerError):
    """An endpoint that cannot be called at all: unreachable, unknown model, rejected key."""

    exit_code = 4


class CallsFailed(RewardDistillerError):
    """More calls failed for good than the config allows; the ledger keeps all that succeeded."""

    exit_code = 5


class LedgerError(RewardDistillerError):
    """The ledger cannot be opened, read or written, or does not hold what it should.

    Locked by another run, not there, not a ledger, of another version, damaged, disk full.
    """

    exit_code = 6


class ModelError(RewardDistillerError):
    """A checkpoint, tokenizer or chat template that cannot make a reward model."""

    exit_code = 7


class NeedsCritique(ModelError):
    """A model that reads a critique beside the response, and nobody to give one."""

    exit_code = 11


class TrainingError(RewardDistillerError):
    """Training cannot start or go on: no pairs left, loss not finite."""

    exit_code = 8


class RewardError(TrainingError):
    """A reward that is no finite number, or that its term cannot give."""


class GuardBreached(TrainingError):
    """A policy that went beyond what `guards` allow, in a run that was told to stop then."""

    exit_code = 15


class FileError(RewardDistillerError):
    """A file or folder that cannot be written: disk full, no permission."""

    exit_code = 10


class MissingExtra(RewardDistillerError):
    """An optional dependency is not installed."""

    exit_code = 9

    def __init__(self, package: str, extra: str):
        super().__init__(f"this needs the package {package!r}: pip install 'reward-distiller[{extra}]'")


class BudgetReached(RewardDistillerError):
    """A cap that the user set on what calls may cost. The run ends as it was told to; the ledger keeps all answers.

    `cap` is money, tokens or calls; the rest are amounts of that.
    """

    exit_code = 12

    def __init__(self, cap: str, limit: Decimal | int, *, spent: Decimal | int, needed: Decimal | int):
        limit, spent, needed = (Decimal(amount).normalize() for amount in (limit, spent, needed))
        super().__init__(
            f"the budget's cap on {cap} is reached: {spent:f} of {limit:f} spent, and the next call could cost "
            f"{needed:f}. Raise the cap and run again: no answer is bought twice"
        )


class BatchesPending(RewardDistillerError):
    """Calls were handed over in batches that are not answered yet, and the run was told not to wait."""

    exit_code = 13


class ClusterError(RewardDistillerError):
    """A cluster that cannot be reached, or whose workers die again and again."""

    exit_code = 14


class ProblemsFound(RewardDistillerError):
    """The doctor has found what would stop a run."""

    exit_code = 16


class PublishError(RewardDistillerError):
    """What cannot be published: a run without an end, a file with a secret, a refusal by the Hub."""

    exit_code = 17


class RunFailed(RewardDistillerError):
    """One of the runs that a command started; it ends with that run's exit code."""

    def __init__(self, title: str, exit_code: int, said: str):
        self.exit_code = exit_code
        super().__init__(
            f"{title}: ended with exit code {exit_code}. {said}\nMend it and run again; finished runs stay as they are"
        )
