"""Run in the environment of install.sh: does the engine itself take a launch script's options? Prints their number.

verl composes them with its own defaults through Hydra, which refuses a key that its schema has not. OpenRLHF's own
argument parser reads them; it stands in the main block of its module, so that block's definitions are what is run.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import shlex
import sys
from datetime import datetime
from pathlib import Path


def options_of(script: str) -> list[str]:
    return shlex.split(script.split("options=(\n")[1].split("\n)\n")[0])


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def verl_takes(script: str, options: list[str]) -> None:
    from hydra import compose, initialize_config_dir

    name = "sft_trainer_engine" if "verl.trainer.sft_trainer" in script else "ppo_trainer"
    with initialize_config_dir(str(folder_of("verl") / "trainer" / "config"), version_base=None):
        compose(config_name=name, overrides=options)


def openrlhf_takes(script: str, options: list[str]) -> None:
    name = "train_sft" if "openrlhf.cli.train_sft" in script else "train_ppo_ray"
    tree = ast.parse((folder_of("openrlhf") / "cli" / f"{name}.py").read_text("utf-8"))
    main = next(node for node in tree.body if isinstance(node, ast.If))
    body = []
    for statement in main.body:
        if "parse_args" in ast.unparse(statement):
            break
        body.append(statement)
    scope = {"argparse": argparse, "datetime": datetime}
    exec(compile(ast.Module(body, []), name, "exec"), scope)
    scope["parser"].parse_args(options)  # type: ignore[attr-defined]


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text("utf-8")
    given = options_of(text)
    (verl_takes if "verl.trainer" in text else openrlhf_takes)(text, given)
    print(len(given))
