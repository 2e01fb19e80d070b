"""Finished runs in one folder, each under the hash of all that it came from. Comparisons share them.

STORE/KEY is a run folder; beside it lie what was asked for (KEY.yaml), what it said (KEY.log) and a lock for who makes
it (KEY.lock). Knows no arms.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
import transformers
import yaml

from reward_distiller import __version__
from reward_distiller.config import (
    Algorithm,
    AnyRun,
    Config,
    DataAndRewards,
    DataSource,
    Made,
    PseudoRewards,
    RLConfig,
    fill_data_folder,
    parse_run,
)
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.benchmarks.reading import files_of
from reward_distiller.files import fingerprint
from reward_distiller.methods import METHODS
from reward_distiller.records import content_id
from reward_distiller.yaml_text import parse_yaml

TESTBED = "testbed"  # the name of a model that is no folder, whatever lies there
Place = tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """What the key of a recipe's runs needs to know of its configs.

    `places` are where things are kept and what the report shows, which change nothing; `inputs` may be local files or
    folders (a section or value that is not there is passed over); of the sections `alternatives` only the one that
    `choice` names is read.
    """

    fields: frozenset[str]
    places: tuple[Place, ...]
    inputs: tuple[Place, ...]
    choice: str | None = None
    alternatives: frozenset[str] = frozenset()


RECIPES = {
    "reward_model": Recipe(
        frozenset(Config.model_fields),
        (("output",), ("ledger",), ("store",), ("testbed", "cache"), ("report",)),
        (
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
        ),
        "method",
        frozenset(METHODS),
    ),
    "rl": Recipe(
        frozenset(RLConfig.model_fields),
        (("output",), ("store",), ("cluster",), ("testbed", "cache")),
        (
            ("policy", "model"),
            ("policy", "chat_template"),
            ("demonstrations", "path"),
            ("evaluation", "prompts", "path"),
        ),
        "algorithm",
        frozenset(get_args(Algorithm)),
    ),
    "pseudo_rewards": Recipe(
        frozenset(PseudoRewards.model_fields),
        (("output",), ("ledger",), ("store",), ("testbed", "cache")),
        (("prompts", "path"), ("annotation", "templates"), ("policy", "model"), ("policy", "chat_template")),
    ),
    "data_and_rewards": Recipe(
        frozenset(DataAndRewards.model_fields), (("output",), ("store",), ("testbed", "cache")), ()
    ),
}
SOURCES = ("model", "function")  # of a reward, that may be a folder or a file


def store_of(config: AnyRun) -> Store:
    """The store of the runs that a run stands on."""
    return Store(Path(config.store) if config.store else Path(config.output) / "store")


class Store:
    """A folder of runs. Files that runs read are hashed once in the life of this object."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._fingerprint: Callable[[str], str] = cache(fingerprint)
        self._runs: dict[str, AnyRun] = {}
        self._keys: dict[str, str] = {}

    def key(self, config: AnyRun) -> str:
        """The hash of config, input files, the runs that it stands on and library versions; not of places."""
        settings = config.model_dump(mode="json")
        known = content_id(settings)
        if known not in self._keys:
            self._keys[known] = self._key(config, settings)
        return self._keys[known]

    def _key(self, config: AnyRun, settings: dict[str, Any]) -> str:
        identity = _identity(settings)
        given = {".".join(place): _at(identity, place) for place in RECIPES[config.recipe].inputs}
        if isinstance(config, RLConfig):
            given |= _paths("prompts", settings)
            given |= _reward_files(settings["rewards"])
        if isinstance(config, Config):
            given |= _paths("responses", settings)
        files = {
            name: self._fingerprint(fill_data_folder(path))
            for name, path in given.items()
            if path not in (None, TESTBED)
        }
        files |= {place: self.key(self._parsed(made)) for place, made in config.made.items()}
        if isinstance(config, Config):
            files |= self._benchmarks(config)
        return content_id({"config": identity, "files": files, "versions": _versions(config)})

    def _benchmarks(self, config: Config) -> dict[str, str]:
        found = {}
        for name, path in config.evaluation.benchmarks.items():
            if path is not None:
                read = files_of(benchmark_named(name), path)
                found[f"evaluation.benchmarks.{name}"] = content_id([self._fingerprint(str(file)) for file in read])
        return found

    def made(self, made: Made) -> AnyRun:
        """A run that another one stands on, as a run of this store."""
        config = self._parsed(made)
        update = {"output": str(self.place(self.key(config))), "store": str(self.folder)}
        if isinstance(config, Config | PseudoRewards):
            update["ledger"] = config.ledger or str(self.folder / "ledger.sqlite")
        return config.model_copy(update=update)

    def source(self, source: DataSource) -> DataSource:
        """The same source as a file, where it is one of another run's folder."""
        if source.made_by is None or source.run_file is None:
            return source
        path = Path(self.made(source.made_by).output) / source.run_file
        return source.model_copy(update={"made_by": None, "run_file": None, "path": str(path)})

    def _parsed(self, made: Made) -> AnyRun:
        """Runs stand on the same runs again and again; each is read once."""
        run = _run_of(made)
        key = content_id(run)
        if key not in self._runs:
            self._runs[key] = parse_run(run)
        return self._runs[key]

    def place(self, key: str) -> Path:
        return self.folder / key

    def results(self, key: str, config: AnyRun) -> dict[str, Any] | None:
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
    recipe = RECIPES[settings["recipe"]]
    for *sections, name in recipe.places:
        _at(settings, tuple(sections)).pop(name, None)  # an earlier version wrote no `report`
    others = recipe.alternatives - {settings[recipe.choice]} if recipe.choice else ()
    kept = {name: value for name, value in settings.items() if name in recipe.fields and name not in others}
    return dict(_with_identities(kept))


def _with_identities(settings: Any) -> Any:
    """The runs of `made_by`, however deep they stand, as their own identities."""
    if isinstance(settings, list):
        return [_with_identities(each) for each in settings]
    if not isinstance(settings, dict):
        return settings
    return {
        name: _identity(value["run"]) if name == "made_by" and value else _with_identities(value)
        for name, value in settings.items()
    }


def _run_of(made: Made) -> dict[str, Any]:
    if not isinstance(made.run, dict):
        raise ConfigError(f"made_by: {made.run} was not read. Load the config that names it from its file")
    return made.run


def _paths(name: str, settings: dict[str, Any]) -> dict[str, str | None]:
    """The files of a list of sources."""
    return {f"{name}.{at}": source["path"] for at, source in enumerate(settings[name])}


def _reward_files(terms: dict[str, Any]) -> dict[str, str | None]:
    """The folders and files of rewards; a rule's module stands for itself."""
    found = {}
    for name, term in terms.items():
        for member, source in {"": term, **((term.get("ensemble") or {}).get("members") or {})}.items():
            for kind in SOURCES:
                path = source.get(kind)
                found[f"rewards.{name}.{member}.{kind}"] = (
                    path.rpartition(":")[0] if path and kind == "function" else path
                )
    return found


def _versions(config: AnyRun) -> list[str]:
    found = [__version__, torch.__version__, transformers.__version__]
    if isinstance(config, RLConfig) and config.algorithm != "ppo":
        found.append(importlib.metadata.version("trl") if importlib.util.find_spec("trl") else "no trl")
    return found


def _at(settings: dict[str, Any], place: Place) -> Any:
    for name in place:
        settings = (settings or {}).get(name)  # type: ignore[assignment]
    return settings
