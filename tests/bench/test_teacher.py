"""The bench of calls: all sides make them all, are timed in turn, and cannot be fast by asking less."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.teacher import WORKLOADS, Server, Workload, make_row, measure, one_run, table, write_bodies
from reward_distiller.testbed.server import serve


def test_a_small_run_has_every_figure(tmp_path: Path) -> None:
    found = measure(["bare", "ours"], calls=12, repeats=1, memory_calls=16, output=tmp_path / "out.json")
    assert [row["name"] for row in found["rows"]] == [workload.name for workload in WORKLOADS]
    for row in found["rows"]:
        assert set(row["per_second"]) == {"bare", "ours"}
        assert row["ours_to_bare"] == pytest.approx(row["seconds"]["bare"][0] / row["seconds"]["ours"][0])
        assert all(ms > 0 for ms in row["cpu_ms_per_call"].values())
    assert found["rows"][0]["seconds"]["ours"][0] > 0.5
    assert found["rows"][0]["ideal_share"]["ours"] == found["rows"][0]["per_second"]["ours"] / 512
    assert 20 < found["memory"]["before_mb"] <= found["memory"]["peak_mb"] < 1000
    assert json.loads(json.dumps(found)) == found
    lines = table(found["rows"], found["memory"], found["peak_memory_mb"]).splitlines()
    assert sum("| ours |" in line for line in lines) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bench-logs"]  # its ledgers are gone


def test_every_question_is_another_one(tmp_path: Path) -> None:
    write_bodies(1200, tmp_path / "bodies.jsonl")
    lines = (tmp_path / "bodies.jsonl").read_text().splitlines()
    assert len(set(lines)) == 1200
    assert all("sample" not in json.loads(line) for line in lines)


class Idle:
    """A side that says it has made its calls."""

    name, log = "idle", Path("idle.log")

    def ask(self, **message: object) -> dict[str, object]:
        return {"seconds": 0.001, "cpu_seconds": 0.0, "answers": message["calls"]}


def test_a_side_that_makes_no_calls_is_found_out(tmp_path: Path) -> None:
    with serve() as server, pytest.raises(ValueError, match="40 answers and 0 calls"):
        one_run(Idle(), Server(server.base_url, 1), 40, tmp_path)  # type: ignore[arg-type]


def test_ratios_are_of_runs_side_by_side_and_rates_of_medians() -> None:
    def runs(*seconds: float) -> list[dict[str, float]]:
        return [{"seconds": s, "cpu_seconds": s / 2, "server_cpu_seconds": s / 4} for s in seconds]

    row = make_row(Workload("w", 0.5), 512, {"ours": runs(2, 4, 1), "bare": runs(1, 8, 3)})
    assert row["ratios"]["ours_to_bare"] == [0.5, 2, 3]
    assert row["ours_to_bare"] == 2
    assert row["per_second"] == {"ours": 256, "bare": pytest.approx(512 / 3)}
    assert row["ideal_share"]["ours"] == 0.5
    assert row["server_busy"]["ours"] == 0.25
