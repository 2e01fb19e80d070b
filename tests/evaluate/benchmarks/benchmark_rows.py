"""What tests of benchmarks share: rows as they are read, examples answered with rewards, and the real data's folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reward_distiller.evaluate.answers import Rewards, outcome
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Unused
from reward_distiller.rows import Fields


def read(benchmark: Benchmark, rows: Sequence[dict[str, Any]], where: str = "made_up.jsonl") -> list[Example | Unused]:
    return list(benchmark.read([Fields(where, number, row, {}) for number, row in enumerate(rows, 1)]))


def answered(examples: Sequence[Example | Unused], rewards: Sequence[Sequence[float]]) -> list[Outcome]:
    """Outcomes of the examples, which must all be used, with one list of rewards each."""
    made = []
    for example, values in zip(examples, rewards, strict=True):
        assert isinstance(example, Example)
        made.append(outcome(example, Rewards(tuple(values))))
    return made


def values(benchmark: Benchmark, outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {name: metric.value for name, metric in benchmark.metrics(outcomes).metrics.items()}


def data(name: str) -> Path:
    """A file or folder of the real data; the test is skipped where it is not there."""
    path = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / name
    if not path.exists():
        pytest.skip(f"{name} is not in $REWARD_DISTILLER_DATA")
    return path
