"""Finished runs in one folder, each under the hash of all that it came from. Comparisons share them.

STORE/KEY is a run folder; beside it lie what was asked for (KEY.yaml), what it said (KEY.log) and a lock for who makes
it (KEY.lock). Knows no arms.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

from reward_distiller import __version__
from reward_distiller.config import Config, fill_data_folder
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.benchmarks.reading import files_of
from reward_distiller.files import fingerprint
from reward_distiller.methods import METHODS
from reward_distiller.records import content_id
from reward_distiller.yaml_text import parse_yaml

PLACES = (("output",), ("ledger",), ("testbed", "cache"))  # where things are kept changes nothing
INPUTS = (  # what may be a local file or folder; a section or value that is not there is passed over
    ("prompts", "path"),
    ("pairs", "path"),
    ("annotation", "templates"),
    ("student", "model"),
    ("student", "chat_template"),
    ("student", "from_scratch", "tokenizer"),
    ("rm_distiller", "kl_teacher"),
    ("rm_distiller", "kl_store"),
    ("edit_aligned", "kl_teacher"),
    ("edit_aligned", "kl_store"),
)
TESTBED = "testbed"  # the name of a model that is no folder, whatever lies there


class Store:
    """A folder of runs. Files that runs read are hashed once in the life of this object."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._fingerprint: Callable[[str], str] = cache(fingerprint)

    def key(self, config: Config) -> str:
        """The hash of config, input files and library versions; not of places, nor of other methods' sections."""
        identity = _identity(config.model_dump(mode="json"))
        given = {".".join(place): _at(identity, place) for place in INPUTS}
        files = {
            name: self._fingerprint(fill_data_folder(path))
            for name, path in given.items()
            if path not in (None, TESTBED)
        }
        for name, path in config.evaluation.benchmarks.items():
            if path is not None:
                read = files_of(benchmark_named(name), path)
                files[f"evaluation.benchmarks.{name}"] = content_id([self._fingerprint(str(file)) for file in read])
        versions = [__version__, torch.__version__, transformers.__version__]
        return content_id({"config": identity, "files": files, "versions": versions})

    def place(self, key: str) -> Path:
        return self.folder / key

    def results(self, key: str, config: Config) -> dict[str, Any] | None:
        """What a finished run's results.json holds; None where it is not there, or another config's."""
        try:
            results = json.loads((self.place(key) / "results.json").read_text("utf-8"))
            made_from = parse_yaml((self.place(key) / "config.yaml").read_text("utf-8"))
            same = _identity(made_from) == _identity(config.model_dump(mode="json"))
        except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError):
            return None
        return results if isinstance(results, dict) and same else None

    def train_seconds(self, key: str) -> float | None:
        try:
            return float(json.loads((self.place(key) / "timing.json").read_text("utf-8"))["train_seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _identity(settings: dict[str, Any]) -> dict[str, Any]:
    """All of a resolved config that decides what comes out; not a section that the package no longer has."""
    settings = copy.deepcopy(settings)
    for *sections, name in PLACES:
        _at(settings, tuple(sections)).pop(name)
    others = METHODS.keys() - {settings["method"]}
    return {name: value for name, value in settings.items() if name in Config.model_fields and name not in others}


def _at(settings: dict[str, Any], place: tuple[str, ...]) -> Any:
    for name in place:
        settings = (settings or {}).get(name)  # type: ignore[assignment]
    return settings
