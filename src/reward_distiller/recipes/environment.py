"""What a run was made with: the versions that decide its figures, and the commit of the folder that it was started in.

Two runs of one environment write the same bytes, so neither a time nor a machine's name is in it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import subprocess
from pathlib import Path
from typing import Any

from reward_distiller import __version__
from reward_distiller.files import write_json

PACKAGES = ("accelerate", "numpy", "peft", "scipy", "tokenizers", "torch", "transformers", "trl")
FILE = "environment.json"
PATIENCE = 5  # seconds; a repository on a slow disk is not worth more


def write_environment(folder: Path) -> None:
    write_json(folder / FILE, environment())


def environment() -> dict[str, Any]:
    """Versions, those of missing packages left out; `commit` is None where the working folder is in no repository."""
    there = {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    commit = _git("rev-parse", "HEAD")
    found: dict[str, Any] = {"python": platform.python_version(), "reward-distiller": __version__, "packages": there}
    found["commit"] = commit or None
    if commit:
        found["uncommitted_changes"] = bool(_git("status", "--porcelain", "--untracked-files=no"))
    return found


def _git(*arguments: str) -> str:
    """What git says; nothing where there is no git, no repository, or none that it trusts."""
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
