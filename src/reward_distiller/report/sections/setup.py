"""What the run was made of: its config as it was resolved, versions, commit and seeds."""

from __future__ import annotations

import json
import re
from typing import Any

from reward_distiller.report.markup import facts, folded, joined
from reward_distiller.report.run import KINDS, Run
from reward_distiller.report.section import Section
from reward_distiller.yaml_text import write_yaml


def setup(run: Run) -> Section | None:
    made = run.environment
    pairs = [("Recipe", KINDS[run.kind]), ("Seeds", _seeds(run))]
    if made:
        versions = {"Python": made["python"], "reward-distiller": made["reward-distiller"], **made["packages"]}
        pairs.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
        commit = made["commit"] or "the working folder was in no repository"
        pairs.append(("Commit", commit + (", with uncommitted changes" if made.get("uncommitted_changes") else "")))
    if key := (run.results.get("training") or {}).get("run_key"):
        pairs.append(("Key of the training", str(key)))
    config = run.config or _given(run.results)
    html = joined(
        facts(pairs), folded("The config as it was resolved", without_passwords(write_yaml(config))) if config else None
    )
    return Section("setup", "How to make it again", html)


def without_passwords(text: str) -> str:
    """A report is handed around: whatever stands before the @ of a URL is left out."""
    return re.sub(r"(://)[^/@\s]+@", r"\1…@", text)


def _seeds(run: Run) -> str:
    seeds = run.results.get("seeds") or [run.results.get("seed", run.config.get("seed"))]
    return ", ".join(str(seed) for seed in seeds if seed is not None) or "none"


def _given(results: dict[str, Any]) -> dict[str, Any]:
    """Of a comparison, its arms; of an evaluation, who was asked: neither has a config of its own."""
    if "arms" in results:
        return {"arms": {arm: entry["changes"] for arm, entry in results["arms"].items()}}
    return {name: json.loads(json.dumps(results[name])) for name in ("scorer", "against") if name in results}
