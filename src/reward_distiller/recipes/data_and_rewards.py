"""Recipe `data_and_rewards`: not only a teacher's data is distilled, but its rewards, too (arXiv 2502.19557).

The runs that it is made of (`config/data_and_rewards.py`) are made in the store, and this run's folder holds what they
came to: results.json, table.md for people, and the links model/ and reward_model/ to the last ones. Knows no sampling
and no training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reward_distiller.config import TEACHER_TEST, DataAndRewards, PseudoRewards, RLConfig
from reward_distiller.errors import RunFailed
from reward_distiller.files import link, write_json, write_text
from reward_distiller.recipes.made import make, title_of
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.store import store_of


def run_data_and_rewards(config: DataAndRewards) -> dict[str, Any]:
    """Make the runs that are missing; write and give what results.json holds."""
    with run_folder(config) as folder:
        make(config, store_of(config))
        results = collected(config)
        write_json(folder / "results.json", results)
        write_text(folder / "table.md", table(results))
        for name in ("model", "reward_model"):
            if results[name]:
                link(folder / name, results[name])
        return results


def collected(config: DataAndRewards) -> dict[str, Any]:
    """Figures of every run under its name, those of the last policy as `policy`, and what was sampled and asked."""
    store = store_of(config)
    figures: dict[str, Any] = {}
    folders: dict[str, str] = {}
    cost: list[dict[str, Any]] = []
    sampled = {"teacher": 0, "student": 0}
    model = reward_model = ""
    for name, made in config.made.items():
        run = store.made(made)
        found = store.results(store.key(run), run)
        if found is None:
            raise RunFailed(title_of(run), 1, f"{run.output} holds no results, or another config's")
        folders[name] = run.output
        if name != TEACHER_TEST:  # an evaluation is no cost of the method
            cost += [{"run": name, **row} for row in found.get("cost") or []]
        if isinstance(run, PseudoRewards):
            groups = {group: found.get(group, {}) for group in ("responses", "vote", "chosen")}
            figures[name] = {f"{group}.{n}": figure for group, own in groups.items() for n, figure in own.items()}
            if name != TEACHER_TEST:
                sampled["teacher" if run.teacher else "student"] += found["counts"]["responses"]
        elif isinstance(run, RLConfig):
            figures[name] = figures["policy"] = found.get("policy", {})
            model = found["model"]
        else:
            figures[name] = {n: f for n, f in found.get("held_out", {}).items() if isinstance(f, dict)}
            reward_model = str(Path(run.output) / "model")
    calls = sum(row["calls"] for row in cost)
    tokens = sum(row["input_tokens"] + row["output_tokens"] for row in cost)
    counts = {"teacher_samples": sampled["teacher"], "student_samples": sampled["student"]}
    counts |= {"calls": calls, "teacher_tokens": tokens}
    return {
        "recipe": config.recipe,
        "seed": config.seed,
        "model": model,
        "reward_model": reward_model,
        "runs": folders,
        **figures,
        "spent": {name: dict.fromkeys(("value", "low", "high"), float(value)) for name, value in counts.items()},
        "cost": cost,
    }


def table(results: Mapping[str, Any]) -> str:
    """Every run with its figures, in the order in which they were made."""
    lines = ["| run | figure | value | 95% interval |", "|---|---|---:|---:|"]
    for name in results["runs"]:
        for figure, found in results[name].items():
            lines.append(f"| {name} | {figure} | {found['value']:.2f} | {found['low']:.2f} to {found['high']:.2f} |")
    spent = ", ".join(f"{figure['value']:,.0f} {name.replace('_', ' ')}" for name, figure in results["spent"].items())
    return "\n".join([*lines, "", f"Spent: {spent}.", ""])
