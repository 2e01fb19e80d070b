"""Configs out of YAML files and back, with overrides; what is wrong is named by file and dotted key."""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reward_distiller.config.base import Section
from reward_distiller.config.run import Comparison, Config
from reward_distiller.errors import ConfigError
from reward_distiller.yaml_text import apply_override, parse_yaml, write_yaml


def dump_yaml(config: Section) -> str:
    """The resolved config; `load_config` reads the same from it."""
    return write_yaml(config.model_dump(mode="json"))


def load_config(path: str | Path, overrides: list[str] = ()) -> Config:  # type: ignore[assignment]
    """Read a YAML file, apply `key.sub=value` overrides (values are YAML) and validate.

    Raises ConfigError with the file, the dotted key, the problem and the mend.
    """
    data = _read(path, overrides)
    if data.get("recipe") == "compare":
        raise ConfigError(f"{path}: a comparison, not one run's config. Use reward-distiller compare {path}")
    return parse_config(data, where=str(path))


def load_comparison(path: str | Path, overrides: list[str] = ()) -> Comparison:  # type: ignore[assignment]
    """Read a comparison's YAML file in the same way; the path of its base is filled in, the base not read."""
    data = _read(path, overrides)
    if data.get("recipe", "compare") != "compare":
        raise ConfigError(
            f"{path}: one run's config. Write a comparison with `base: {path}`, or use reward-distiller run"
        )
    if isinstance(data.get("base"), str):
        data["base"] = str(Path(path).parent / data["base"])
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
    try:
        config = Config.model_validate(data)
        config._given = copy.deepcopy(data)
        return config
    except ValidationError as error:
        raise _as_config_error(error, where) from error


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
