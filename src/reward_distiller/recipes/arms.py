"""One config in several arms, side by side: an arm is a name and the changes it makes to the config.

Every arm is a run of recipe `reward_model` in OUTPUT/ARM, all on one ledger, so that a call which two arms need is
paid for once. Writes OUTPUT/results.json and OUTPUT/table.md. Trivial scorers stand in the table once, as they are
the same for all arms. Knows no methods: what an arm changes is the config's business. All arms have one seed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from reward_distiller.config import Config, apply_override, parse_config
from reward_distiller.console import say
from reward_distiller.errors import ConfigError
from reward_distiller.files import write_json, write_text
from reward_distiller.methods import method_named
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_model import read_inputs, run
from reward_distiller.recipes.training import student_chat

Arms = Mapping[str, Sequence[str]]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # a folder everywhere, and none of the files beside it
COLUMNS = {  # group and figure in an arm's results -> title; a column is shown where some arm has it
    ("held_out", "accuracy"): "held-out pairs",
    ("testbed", "easy"): "easy",
    ("testbed", "normal"): "normal",
    ("testbed", "hard"): "hard",
    ("testbed", "average"): "average",
}
TRIVIAL = {  # scorers that read no text; they are of the group `held_out`
    "longer_response": "always the longer response",
    "source_model": "knowing only which model wrote it",
}


def load_arms(path: str | Path) -> dict[str, list[str]]:
    """A YAML mapping of arm names to lists of `key.sub=value`. Raises ConfigError."""
    try:
        data = yaml.safe_load(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file of arms. Start from configs/ablation-arms.yaml") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict) or not data:
        raise ConfigError(f"{path}: arms are a mapping of names to lists of key.sub=value")
    for name, overrides in data.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(f"{path}: {name!r} is no name for an arm. Use letters, digits, '_' and '-'")
        if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
            raise ConfigError(f"{path}: arm {name}: write its changes as a list of key.sub=value")
    return data


def arm_config(config: Config, name: str, overrides: Sequence[str], output: Path) -> Config:
    """The config of one arm. Raises ConfigError where it changes what all arms share."""
    data = config.given
    for override in overrides:
        apply_override(data, override)
    data["output"] = str(output / name)
    data["ledger"] = config.ledger or str(output / "ledger.sqlite")
    arm = parse_config(data, where=f"arm {name}")
    if (arm.seed, arm.testbed) != (config.seed, config.testbed):
        raise ConfigError(f"arm {name}: seed and testbed are the same for all arms. Change them for the whole command")
    return arm


def run_arms(config: Config, parts: Parts, arms: Arms, output: Path) -> dict[str, Any]:
    """Run all arms, one after the other; give what results.json holds. Every arm is checked before the first runs."""
    configs = {name: arm_config(config, name, overrides, output) for name, overrides in arms.items()}
    plans = {name: method_named(arm.method).plan(arm) for name, arm in configs.items()}
    for arm in configs.values():
        read_inputs(arm, parts)
        student_chat(arm, parts)
    entries: dict[str, Any] = {}
    for name, arm in configs.items():
        say(f"== {name}")
        entries[name] = {
            "overrides": list(arms[name]),
            "teacher": arm.teacher.model if arm.teacher else None,
            "refinement": plans[name].refinement is not None,
            "results": run(arm, parts),
        }
    results = {"seed": config.seed, "arms": entries}
    write_json(output / "results.json", results)
    write_text(output / "table.md", table(results))
    return results


def table(results: dict[str, Any]) -> str:
    """Accuracies in percent with 95% intervals as Markdown: a row for each arm, one for each trivial scorer, notes."""
    of_arm = {name: entry["results"] for name, entry in results["arms"].items()}
    columns = {
        column: title
        for column, title in COLUMNS.items()
        if any(column[1] in r.get(column[0], {}) for r in of_arm.values())
    }
    rows = [["", "training pairs", *columns.values()]]
    for name, r in of_arm.items():
        figures = [_cell(r.get(group, {}).get(figure)) for group, figure in columns]
        rows.append([name, str(r["training"]["pairs"]), *figures])
    for scorer, title in TRIVIAL.items():
        for figure, names in _distinct(of_arm, scorer):
            shown = [_cell(figure) if column == ("held_out", "accuracy") else "–" for column in columns]
            rows.append([title if len(names) == len(of_arm) else f"{title} ({', '.join(names)})", "–", *shown])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join([*lines, "", *_notes(results), ""])


def _distinct(of_arm: dict[str, Any], scorer: str) -> list[tuple[dict[str, float], list[str]]]:
    """A trivial scorer's figures with the arms that they belong to: one, unless arms differ in their held-out pairs."""
    found: list[tuple[dict[str, float], list[str]]] = []
    for name, r in of_arm.items():
        figure = r.get("held_out", {}).get(scorer)
        if figure is None:
            continue
        for known, names in found:
            if known == figure:
                names.append(name)
                break
        else:
            found.append((figure, [name]))
    return found


def _cell(figure: dict[str, float] | None) -> str:
    return "–" if figure is None else f"{figure['value']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"


def _notes(results: dict[str, Any]) -> list[str]:
    """What the figures are, and what a reader must know of the arms to compare them."""
    arms = results["arms"]
    held_out = [e["results"]["held_out"] for e in arms.values() if "held_out" in e["results"]]
    lines = [f"Percent right, with 95% intervals; seed {results['seed']}."]
    if held_out:
        prompts = _either(figures["accuracy"]["n"] for figures in held_out)
        too_long = _either(figures["too_long"] for figures in held_out)
        lines.append(f"Held-out pairs are of {prompts} prompts unseen in training; {too_long} more were too long.")
    off = [name for name, e in arms.items() if not e["refinement"]]
    recorded = [name for name, e in arms.items() if e["teacher"] is None]
    if off:
        lines.append(f"Refinement off: {_all_or(off, arms)}.")
    if recorded:
        lines.append(f"Recorded teacher (scores read from the data set, no calls): {_all_or(recorded, arms)}.")
    return [" ".join(lines)]


def _either(counts: Iterable[int]) -> str:
    return " or ".join(str(count) for count in sorted(set(counts)))


def _all_or(names: list[str], arms: dict[str, Any]) -> str:
    return "all arms" if len(names) == len(arms) else ", ".join(names)
