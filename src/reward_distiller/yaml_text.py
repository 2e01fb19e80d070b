"""The YAML that configs are written in: numbers such as 1e-5, no key twice, `key.sub=value` overrides.

Knows no config's fields.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import yaml

from reward_distiller.errors import ConfigError


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 reads 1e-5 as text, and takes the last of two keys of one name: nobody means that."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for first, second in itertools.combinations(keys, 2):
            if first.value == second.value:
                problem = f"{first.value!r} stands there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, second.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes the texts that `_Yaml` would read as numbers."""


for _form in (_Yaml, _Dumper):
    _form.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
    )


def write_yaml(data: Any) -> str:
    """Text from which `parse_yaml` reads the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def parse_yaml(text: str) -> Any:
    """Safe YAML with numbers such as 1e-5. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Yaml)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one `key.sub=value` in place; lists take an index."""
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"override {override!r}: write it as key.sub=value")
    try:
        value = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML: {error}") from error
    node: Any = data
    for part in parts[:-1]:
        place = _place(node, part, override)
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = {}
        node = node[place]
        if not isinstance(node, dict | list):
            raise ConfigError(f"override {override!r}: {part!r} is a value, not a section")
    node[_place(node, parts[-1], override)] = value


def _place(node: dict[str, Any] | list[Any], part: str, override: str) -> Any:
    """A key of a section, or an index of a list."""
    if isinstance(node, dict):
        return part
    if not part.isdecimal() or int(part) >= len(node):
        raise ConfigError(f"override {override!r}: the list has items 0 to {len(node) - 1}, not {part!r}")
    return int(part)
