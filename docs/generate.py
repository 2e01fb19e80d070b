"""The two reference pages, written from the schema of configs and from the parser of the command line.

    python docs/generate.py        # writes docs/reference/config.md and docs/reference/cli.md

Knows no setting and no command by name, but the recipes.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic.fields import FieldInfo

from reward_distiller.cli.main import app
from reward_distiller.config import Comparison, Config, DataAndRewards, PseudoRewards, RLConfig, Section

PAGES = Path(__file__).parent / "reference"
RECIPES: dict[str, type[Section]] = {
    "reward_model": Config,
    "rl": RLConfig,
    "data_and_rewards": DataAndRewards,
    "pseudo_rewards": PseudoRewards,
    "compare": Comparison,
}
WORDS: dict[Any, str] = {bool: "true, false", int: "whole number", float: "number", str: "text", Any: "anything"}
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
CONFIG_HEAD = """# Config reference

Every section and setting, written by `make reference` from the schema in `src/reward_distiller/config/`. A config is
one YAML file, and `reward-distiller init` writes one to start from. On the command line `key.sub=value` changes a
setting, the value being YAML again. Unknown keys and wrong types are errors that name the key.
"""
CLI_HEAD = """# Command reference

Every command, written by `make reference` from the parser; `--help` behind any of them says the same.
`[key.sub=value ...]` are changes to the config before it. Exit codes stand in
[troubleshooting](../troubleshooting.md#exit-codes).
"""


def config_page() -> str:
    """The page of all recipes, and behind them of the sections that these are made of, each once."""
    lines = [CONFIG_HEAD]
    places = _places()
    for name, recipe in RECIPES.items():
        lines += [f"## Recipe `{name}`", "", *_section(recipe)]
    lines += ["## Sections", ""]
    for section, keys in places.items():
        under = ", ".join(f"`{key}`" for key in dict.fromkeys(keys))
        lines += [f"### `{section.__name__}`", "", f"Stands under {under}.", "", *_section(section)]
    return "\n".join(lines)


def _places() -> dict[type[Section], list[str]]:
    """Each section below the recipes, in the order in which it is met, with the keys that it stands under."""
    places: dict[type[Section], list[str]] = {}
    to_see = list(RECIPES.values())
    for section in to_see:  # which grows
        for key, field in section.model_fields.items():
            for below in _sections_in(field.annotation):
                if below not in places:
                    to_see.append(below)
                places.setdefault(below, []).append(key)
    return places


def _sections_in(kind: Any) -> Iterator[type[Section]]:
    if isinstance(kind, type) and issubclass(kind, Section):
        yield kind
    for part in typing.get_args(kind):
        yield from _sections_in(part)


def _section(section: type[Section]) -> list[str]:
    said = (section.__doc__ or "").strip()
    lines = [*([_prose(said), ""] if said else []), "| key | type | default | meaning |", "|---|---|---|---|"]
    lines += [_row(key, field) for key, field in section.model_fields.items()]
    return [*lines, ""]


def _row(key: str, field: FieldInfo) -> str:
    below = list(_sections_in(field.annotation))
    bounds = [f"{BOUNDS[name]} {getattr(m, name):g}" for m in field.metadata for name in BOUNDS if hasattr(m, name)]
    kind = ", ".join([_kind(field.annotation), *bounds])
    meaning = field.description or (_summary(below[0]) if below else "")
    return f"| `{key}` | {kind} | {_default(field)} | {_cell(meaning)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        return "its defaults"
    return "unset" if value is None else f"`{json.dumps(value)}`"


def _kind(kind: Any) -> str:
    parts = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if kind in WORDS:
        return WORDS[kind]
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value) if not isinstance(value, str) else value}`" for value in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(part) for part in parts if part is not type(None))
    if origin is list:
        return f"list of: {_kind(parts[0])}"
    if origin is dict:
        return f"mapping of names to: {_kind(parts[1])}"
    if kind in (dict, list):
        return "mapping" if kind is dict else "list"
    return f"[{kind.__name__}](#{kind.__name__.lower()})"


def _summary(section: type[Section]) -> str:
    """The first sentence of what a section says of itself."""
    said = _prose((section.__doc__ or "").strip())
    return said.split(". ")[0].rstrip(".")


def cli_page() -> str:
    lines = [CLI_HEAD]
    root: Any = typer.main.get_command(app)
    for path, command, context in _commands(root, typer.Context(root, info_name="reward-distiller")):
        lines += [f"## `{path}`", "", *_command(path, command, context)]
    return "\n".join(lines)


def _commands(group: Any, context: typer.Context) -> Iterator[tuple[str, Any, typer.Context]]:
    for name in sorted(group.commands):
        command = group.commands[name]
        below = typer.Context(command, info_name=name, parent=context)
        if hasattr(command, "commands"):
            yield from _commands(command, below)
        else:
            yield below.command_path, command, below


def _command(path: str, command: Any, context: typer.Context) -> list[str]:
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    usage = re.sub(r"\{(\w+)\}", r"\1", usage).replace("[[", "[").replace("]]", "]")
    said, _, example = (command.help or "").partition("Example:")
    lines = [_prose(said.strip()), "", "```text", usage, "```", ""]
    if example.strip():
        lines += ["For example:", "", "```bash", " ".join(example.replace("\\\n", " ").split()), "```", ""]
    records = [record for parameter in command.get_params(context) if (record := _record(parameter, context))]
    if records:
        lines += ["| | |", "|---|---|", *(f"| `{_cell(name)}` | {_cell(said)} |" for name, said in records), ""]
    return lines


def _record(parameter: Any, context: typer.Context) -> tuple[str, str] | None:
    if parameter.name == "help":
        return None
    record = parameter.get_help_record(context)
    return record and (" ".join(record[0].split()), " ".join(record[1].split()))


def _prose(text: str) -> str:
    """Paragraphs on a line each; what is indented in them stays as it is, as code."""
    blocks = [block for block in text.replace("\n    ", "\n").split("\n\n") if block.strip()]
    return "\n\n".join(f"```text\n{b}\n```" if b.startswith("    ") else " ".join(b.split()) for b in blocks)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def pages() -> dict[Path, str]:
    return {PAGES / "config.md": config_page(), PAGES / "cli.md": cli_page()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text.rstrip() + "\n", encoding="utf-8")
