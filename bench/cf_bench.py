"""Our CFBench arithmetic on 60 official judgements, against the metrics that the official script wrote down for them.

    python -m bench.cf_bench [FILE]

FILE ($REWARD_DISTILLER_DATA/cfbench/judge_examples.jsonl.gz) holds rows with criteria, the judge's own answer, the
scores that the script read of it, and its CSR, ISR and PSR. Means over all rows: as the script says; ours of its
reading of the answers; ours of what the judge said, criterion by criterion. Then the rows where the readings differ.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reward_distiller.config import fill_data_folder
from reward_distiller.evaluate.policy import cf_bench
from reward_distiller.files import read_rows

Metrics = tuple[float, float, float]  # CSR, ISR, PSR


@dataclass(frozen=True)
class Row:
    """A judgement: the script's metrics, ours of its reading, ours of what the judge said; `read` scores of `count`."""

    name: str
    official: Metrics
    ours: Metrics
    said: Metrics
    read: int
    count: int


def row(found: dict[str, Any]) -> Row:
    texts, priorities = zip(*((text, priority) for text, priority, *_ in found["criteria"]), strict=True)
    read = cf_bench.upstream_scores(found["judge_response"], texts, between="\n\n", separator="\t")
    assert read == tuple(map(float, found["judge_score"])), "the answer is read otherwise than the script read it"
    filled = read if len(read) == len(texts) else (float(bool(read)),) * len(texts)
    said = tuple(float(entry.split("\t")[1]) for entry in found["judge_response"].split("\n\n"))
    official = found["judge_metric"]
    return Row(
        f"{found['infer_model']} {found['idx']}",
        (official["CSR"], official["ISR"], official["PSR"]),
        _metrics(filled, priorities),
        _metrics(said, priorities),
        len(read),
        len(texts),
    )


def _metrics(verdicts: cf_bench.Verdicts, priorities: tuple[str, ...]) -> Metrics:
    """CSR to the two decimals that the script keeps."""
    shares = round(cf_bench.shares(verdicts), 2)
    return shares, cf_bench.all_satisfied(verdicts), cf_bench.priorities_satisfied(verdicts, priorities)


def rows(path: Path) -> list[Row]:
    return [row(found) for _, found in read_rows(path)]


def main() -> None:
    place = sys.argv[1] if len(sys.argv) > 1 else fill_data_folder("$REWARD_DISTILLER_DATA/cfbench")
    path = Path(place)
    found = rows(path / "judge_examples.jsonl.gz" if path.is_dir() else path)
    print(f"{sum(each.ours == each.official for each in found)} of {len(found)} rows have the official metrics\n")
    print("| mean of all | CSR | ISR | PSR |\n|---|---:|---:|---:|")
    for name in ("official", "ours", "said"):
        means = 100 * np.mean([getattr(each, name) for each in found], axis=0)
        print(f"| {name} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    print("\n| row | criteria | scores read | official | as the judge said |\n|---|---:|---:|---|---|")
    for each in found:
        if each.ours != each.said:
            both = (" / ".join(f"{value:g}" for value in metrics) for metrics in (each.official, each.said))
            print(f"| {each.name} | {each.count} | {each.read} | {' | '.join(both)} |")


if __name__ == "__main__":
    main()
