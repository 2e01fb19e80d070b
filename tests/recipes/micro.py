"""A run of the whole recipe that takes seconds: few prompts, a student that is barely pretrained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

MODELS = ("novice", "learner", "adept", "expert")


def micro_config(folder: Path, **changes: Any) -> dict[str, Any]:
    config: dict[str, Any] = {
        "recipe": "reward_model",
        "method": "rm_distiller",
        "output": str(folder / "run"),
        "prompts": {"testbed": {"split": "train", "count": 60}},
        "candidates": [{"model": m, "base_url": "testbed"} for m in MODELS],
        "teacher": {"model": "teacher", "base_url": "testbed", "price": {"input": 1.0, "output": 2.0}},
        "rm_distiller": {"alpha": 0.2, "beta": 0.0},
        "student": {"model": "testbed"},
        "training": {"learning_rate": 1e-3, "threads": 1, "max_length": 256},
        "evaluation": {"testbed_prompts": 20},
        "testbed": {"pretrain_steps": 5, "pretrain_threads": 1, "cache": str(folder / "testbed"), "garble": 0.05},
    }
    return {**config, **changes}


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(micro_config(folder, **changes)))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "reward_distiller.cli.entry", *map(str, arguments)]


def cli(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=300, check=False, **options)


def run_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a run but the ledger, the locks and what says how long the training took."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith((".lock", "ledger.sqlite", "timing.json"))
    }
