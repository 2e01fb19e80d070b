"""Our AlpacaEval 2 arithmetic on the official judge's own annotations, against the official leaderboard.

    python -m bench.alpaca_eval [FOLDER]

FOLDER ($REWARD_DISTILLER_DATA/alpaca_eval) holds the reference's outputs, difficulties, official coefficients, the
leaderboard, and annotations/MODEL.jsonl.gz with the judge's preference (1 to 2) on every output. For each model on the
leaderboard: our win rates less the official ones, in points. LC win rates by our fit, by the official coefficients, by
our fit without the rows that stand for the gamed references, and by one with next to no penalty.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reward_distiller.config import fill_data_folder
from reward_distiller.evaluate.policy import alpaca_eval
from reward_distiller.evaluate.policy.length_control import STRENGTHS, chosen_strength, fit, rows_of
from reward_distiller.evaluate.statistics import percent
from reward_distiller.files import read_rows


@dataclass(frozen=True)
class Row:
    """A model's official figures in percent, and ours less these."""

    model: str
    win_rate: float
    controlled: float
    off: dict[str, float]


def rows(folder: Path) -> Iterator[Row]:
    tasks = {task.id: task for task in alpaca_eval.read(folder)}
    official = alpaca_eval.read_weights(folder / alpaca_eval.WEIGHTS)
    with open(folder / "leaderboard_weighted_gpt4_turbo.csv", newline="", encoding="utf-8") as file:
        board = {row[""]: row for row in csv.DictReader(file)}
    for path in sorted((folder / "annotations").iterdir()):
        model = path.name.removesuffix(".jsonl.gz")
        if model not in board or model not in official:
            print(f"{model}: not on the leaderboard, left out", file=sys.stderr)
            continue
        annotated = [row for _, row in read_rows(path)]
        preference_N = np.array([row["preference"] - 1 for row in annotated])
        of_model = [tasks[str(row["idx"])] for row in annotated]
        outputs = [row["output"] for row in annotated]
        own = alpaca_eval.LengthControlled(of_model, outputs, preference_N)
        lengths = [len(task.details["reference"]) - len(text) for task, text in zip(of_model, outputs, strict=True)]
        features = np.array(lengths, dtype=float), own.difficulty_N, preference_N
        alone, both = rows_of(*features, []), rows_of(*features, of_model[0].details["gamed"])
        discrete_N = (preference_N > 0.5) + 0.5 * (preference_N == 0.5)
        known = {name: float(board[model][name] or "nan") for name in ("win_rate", "discrete_win_rate")}
        controlled = float(board[model]["length_controlled_winrate"])
        off = {
            "win rate": percent(preference_N).value - known["win_rate"],
            "discrete": percent(discrete_N).value - known["discrete_win_rate"],
            "fitted": 100 * own.win_rate - controlled,
            "given": 100 * official[model].win_rate(own.difficulty_N) - controlled,
            "no gamed": 100 * fit(alone, chosen_strength(alone)).win_rate(own.difficulty_N) - controlled,
            "no penalty": 100 * fit(both, STRENGTHS[-1]).win_rate(own.difficulty_N) - controlled,
        }
        yield Row(model, known["win_rate"], controlled, off)


def main() -> None:
    place = sys.argv[1] if len(sys.argv) > 1 else fill_data_folder("$REWARD_DISTILLER_DATA/alpaca_eval")
    found = list(rows(Path(place)))
    names = list(found[0].off)
    print(f"| model | win rate | LC win rate | {' | '.join(names)} |")
    print(f"|---|{'---:|' * (2 + len(names))}")
    for row in found:
        offs = " | ".join(f"{row.off[name]:+.2f}" for name in names)
        print(f"| {row.model} | {row.win_rate:.2f} | {row.controlled:.2f} | {offs} |")
    for title, over in (("mean absolute", np.mean), ("largest absolute", np.max)):
        offs = " | ".join(f"{over([abs(row.off[name]) for row in found]):.3f}" for name in names)
        print(f"| {title} | | | {offs} |")


if __name__ == "__main__":
    main()
