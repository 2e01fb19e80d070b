"""How the policies of a comparison were trained: the figures of their logs over the steps, means over seeds.

As figures 4 and 5 of the paper show them (appendix B.4). Runs that trained no policy have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reward_distiller.files import Row, read_rows

PANELS = {
    "reward": "reward",
    "look_quality": "true quality",
    "tokens": "tokens of a response",
    "look_kl": "KL to the start, nats a response",
    "entropy": "entropy, nats a token",
    "grad_norm": "gradient norm",
}
SMOOTHED = 5  # steps around each in a mean; looks are shown as they are
Points = list[tuple[float, float]]


def training_curves(results: dict[str, Any]) -> dict[str, dict[str, Points]]:
    """Panel -> arm -> (step, mean over its seeds), of the arms whose runs have logs with that figure."""
    found: dict[str, dict[str, Points]] = {}
    for arm, entry in results["arms"].items():
        logs = [log for run in entry["runs"].values() if (log := _log(Path(run["folder"])))]
        for name, title in PANELS.items():
            if "reward" in (logs[0][0] if logs else {}) and (points := _means(logs, name)):
                found.setdefault(title, {})[arm] = points
    return {title: found[title] for title in PANELS.values() if title in found}


def _log(folder: Path) -> list[Row]:
    file = folder / "rl.jsonl"
    return [row for _, row in read_rows(file)] if file.is_file() else []


def _means(logs: Sequence[Sequence[Row]], name: str) -> Points:
    """By step, over the runs that have it there."""
    values: dict[int, list[float]] = {}
    for log in logs:
        for row in log:
            if name in row:
                values.setdefault(int(row["step"]), []).append(float(row[name]))
    points = [(float(step), fmean(values[step])) for step in sorted(values)]
    return points if name.startswith("look_") else _smooth(points)


def _smooth(points: Points) -> Points:
    half = SMOOTHED // 2
    return [(x, fmean(y for _, y in points[max(0, at - half) : at + half + 1])) for at, (x, _) in enumerate(points)]
