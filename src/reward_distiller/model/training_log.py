"""The log of a training: a row of figures for each step in JSONL, and to experiment trackers where asked for.

A row is in the file before the next step begins. A restart keeps the rows up to its checkpoint, so the file of
a killed and resumed training is that of an undisturbed one. Knows no training.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.files import read_rows, write_rows
from reward_distiller.processes import is_main

TRACKERS = ("tensorboard", "trackio", "wandb")  # each the name of its package, and of our extra


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError, before any work, for a tracker that is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"training.log_to: {name} is not installed. pip install 'reward-distiller[{name}]', or leave it out"
            )


class TrainingLog:
    """Use `open_log`. Only the main process writes."""

    def __init__(self, path: Path, trackers: Sequence[Any]):
        self.path, self.trackers = path, trackers

    def keep(self, steps: int) -> None:
        """Begin behind a checkpoint's rows: what a killed run wrote after it is done again."""
        if not is_main():
            return
        rows = [row for _, row in read_rows(self.path)] if steps and self.path.is_file() else []
        write_rows(self.path, [row for row in rows if row["step"] <= steps])

    def write(self, row: dict[str, float]) -> None:
        if not is_main():
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        for tracker in self.trackers:
            tracker.log({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))


@contextmanager
def open_log(path: Path, trackers: Sequence[str], run: str, config: dict[str, Any]) -> Iterator[TrainingLog]:
    """The log in `path`, and trackers: open it behind the Trainer, which knows the processes.

    TensorBoard writes to trackers/ beside `path`, since what it writes holds times; the others where they always do.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    check_trackers(trackers)
    opened: list[Any] = []
    try:
        for name in trackers if is_main() else ():
            tracker_class = LOGGER_TYPE_TO_CLASS[name]
            folder = [str(path.parent / "trackers")] if tracker_class.requires_logging_directory else []
            tracker = tracker_class(run, *folder)
            tracker.start()
            opened.append(tracker)
            tracker.store_init_configuration(_flat(config))
        yield TrainingLog(path, opened)
    finally:
        for tracker in opened:
            tracker.finish()


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys to text and numbers, which is all that every tracker takes."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return flat
