"""A run's folder: held by one command at a time, with the resolved config in it, and what made it. Knows no recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reward_distiller.config import AnyRun, dump_yaml
from reward_distiller.errors import ConfigError
from reward_distiller.files import locked, remove_partial, write_text
from reward_distiller.processes import is_main
from reward_distiller.recipes.environment import write_environment


@contextmanager
def run_folder(config: AnyRun) -> Iterator[Path]:
    """The run's folder, locked, with the resolved config and the environment in it."""
    folder = Path(config.output)
    if not is_main():  # the main process of a launch holds the folder for all
        yield folder
        return
    with locked(folder / ".lock", ConfigError):
        remove_partial(folder)
        text = dump_yaml(config)
        if _read(folder / "config.yaml") != text:
            (folder / "results.json").unlink(missing_ok=True)  # they are another config's
            write_text(folder / "config.yaml", text)
        write_environment(folder)
        yield folder


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None
