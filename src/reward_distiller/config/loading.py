"""Configs out of YAML files and back, with overrides; what is wrong is named by file and dotted key."""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reward_distiller.config.base import Section
from reward_distiller.config.data_and_rewards import DataAndRewards
from reward_distiller.config.pseudo_rewards import PseudoRewards
from reward_distiller.config.rl import RLConfig
from reward_distiller.config.run import Comparison, Config
from reward_distiller.config.whole_run import Made
from reward_distiller.errors import ConfigError
from reward_distiller.yaml_text import apply_override, parse_yaml, write_yaml

AnyRun = Config | RLConfig | PseudoRewards | DataAndRewards
RECIPES: dict[str, type[AnyRun]] = {
    "reward_model": Config,
    "rl": RLConfig,
    "pseudo_rewards": PseudoRewards,
    "data_and_rewards": DataAndRewards,
}
BASE = "base="  # of an arm's changes: another base for that arm


def dump_yaml(config: Section) -> str:
    """The resolved config; `load_config` reads the same from it."""
    return write_yaml(config.model_dump(mode="json"))


def load_config(path: str | Path, overrides: list[str] = ()) -> Config:  # type: ignore[assignment]
    """Read a YAML file, apply `key.sub=value` overrides (values are YAML) and validate.

    Raises ConfigError with the file, the dotted key, the problem and the mend.
    """
    config = load_run(path, overrides)
    if not isinstance(config, Config):
        command = "rl" if isinstance(config, RLConfig) else "run"
        raise ConfigError(f"{path}: of recipe {config.recipe}, not reward_model. Use reward-distiller {command} {path}")
    return config


def load_rl_config(path: str | Path, overrides: list[str] = ()) -> RLConfig:  # type: ignore[assignment]
    """The same for a config of recipe `rl`."""
    config = load_run(path, overrides)
    if not isinstance(config, RLConfig):
        raise ConfigError(f"{path}: of recipe {config.recipe}, not rl. Use reward-distiller run {path}")
    return config


def load_run(path: str | Path, overrides: list[str] = ()) -> AnyRun:  # type: ignore[assignment]
    """The same for one run of any recipe. Files that `made_by` names are relative to this one."""
    data = _read(path, overrides)
    if data.get("recipe") == "compare":
        raise ConfigError(f"{path}: a comparison, not one run's config. Use reward-distiller compare {path}")
    _join_made_by(data, Path(path).parent)
    return parse_run(data, where=str(path))


def load_comparison(path: str | Path, overrides: list[str] = ()) -> Comparison:  # type: ignore[assignment]
    """Read a comparison's YAML file in the same way; the path of its base is filled in, the base not read."""
    data = _read(path, overrides)
    if data.get("recipe", "compare") != "compare":
        raise ConfigError(
            f"{path}: one run's config. Write a comparison with `base: {path}`, or use reward-distiller run"
        )
    folder = Path(path).parent
    if isinstance(data.get("base"), str):
        data["base"] = str(folder / data["base"])
    for changes in data["arms"].values() if isinstance(data.get("arms"), dict) else ():
        for at, change in enumerate(changes if isinstance(changes, list) else ()):
            if str(change).startswith(BASE):
                changes[at] = BASE + str(folder / str(change).removeprefix(BASE))
    try:
        return Comparison.model_validate(data)
    except ValidationError as error:
        raise _as_config_error(error, str(path)) from error


def _read(path: str | Path, overrides: list[str]) -> dict[str, Any]:
    path = Path(path)
    try:
        data = parse_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such config file. Start from one in configs/") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, not {type(data).__name__}")
    for override in overrides:
        apply_override(data, override)
    return data


def parse_config(data: dict[str, Any], where: str = "config") -> Config:
    config: Config = _parse(Config, data, where)
    return config


def parse_run(data: dict[str, Any], where: str = "config") -> AnyRun:
    """One run of any recipe. The configs that `made_by` names are read, and stand in it whole."""
    recipe = data.get("recipe", "reward_model")
    if recipe not in RECIPES:
        raise ConfigError(f"{where}: recipe: there is no {recipe!r:.60}. Use one of {', '.join(RECIPES)}")
    config = _parse(RECIPES[recipe], data, where)
    made = config.made
    if not made or isinstance(config, DataAndRewards):  # whose runs come of its own settings
        return config
    filled = config.with_made({place: _filled(each, config.seed, place) for place, each in made.items()})
    filled._given = config._given
    return filled


def _parse(kind: type[Any], data: dict[str, Any], where: str) -> Any:
    try:
        config = kind.model_validate(data)
    except ValidationError as error:
        raise _as_config_error(error, where) from error
    config._given = copy.deepcopy(data)
    return config


def _filled(made: Made, seed: int, place: str) -> Made:
    """The run itself in place of its file's name, with its changes made and with the seed."""
    if isinstance(made.run, str):
        data = load_run(made.run, made.changes).given
    else:
        data = copy.deepcopy(made.run)
        for change in made.changes:
            apply_override(data, change)
    config = parse_run({"output": "made", **data, "seed": seed}, where=f"{place}.made_by")
    return Made(run=config.model_dump(mode="json"))


def _join_made_by(data: Any, folder: Path) -> None:
    """Make the paths of files that `made_by` names relative to where we run, in place, however deep they stand."""
    if not isinstance(data, dict):
        return
    made = data.get("made_by")
    if isinstance(made, str):
        data["made_by"] = {"run": str(folder / made)}
    elif isinstance(made, dict) and isinstance(made.get("run"), str):
        made["run"] = str(folder / made["run"])
    else:
        for value in data.values():
            _join_made_by(value, folder)


def _as_config_error(error: ValidationError, where: str) -> ConfigError:
    lines = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {_explain(e)}" for e in error.errors()]
    return ConfigError(f"{where}: " + "\n".join(lines))


def _sections(kind: type[Section]) -> list[type[Section]]:
    """All that are of this kind, however far down."""
    return [kind, *(below for section in kind.__subclasses__() for below in _sections(section))]


def _explain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        names = sorted({name for section in _sections(Section) for name in section.model_fields})
        near = difflib.get_close_matches(str(error["loc"][-1]), names, n=1)
        return f"unknown key. {f'Did you mean {near[0]}?' if near else 'Mend the name'} Or remove it"
    got = repr(error.get("input"))
    return f"{error['msg']} (got {got[:80]}{'...' if len(got) > 80 else ''})"
