"""Runs that end on benchmarks: their figures in the results, what was seen in training, methods that read critiques."""

import json
from pathlib import Path

import pytest
from micro import cli, micro_config, run_bytes, write_config

from reward_distiller.config import parse_config
from reward_distiller.errors import BenchmarkError, ConfigError
from reward_distiller.files import write_rows
from reward_distiller.recipes.cards.reward_model_card import evaluation_section
from reward_distiller.recipes.comparison_figures import run_entry, shown_metrics
from reward_distiller.recipes.reward_model import run
from reward_distiller.recipes.store import Store
from reward_distiller.testbed.parts import TestbedParts


@pytest.fixture
def test_pairs(tmp_path: Path) -> Path:
    """The testbed's own pairs, of which the first prompt is one that the runs train on."""
    config = parse_config(micro_config(tmp_path))
    parts = TestbedParts(config.testbed, config.seed)
    seen = parts.world.prompts(60, config.seed, "train")[0]
    items = parts.style_items(12, config.evaluation.testbed_tasks)
    rows = [
        {"prompt": i.prompt.messages[0].content, "chosen": i.chosen[0], "rejected": i.rejected[1], "category": "hard"}
        for i in items
    ]
    rows.append({"prompt": seen, "chosen": "one answer", "rejected": "another", "category": "seen"})
    write_rows(tmp_path / "test.jsonl", rows)
    return tmp_path / "test.jsonl"


def done(folder: Path, **changes):
    config = parse_config(micro_config(folder, **changes))
    return run(config, TestbedParts(config.testbed, config.seed)), Path(config.output)


def test_a_run_ends_on_its_benchmarks(test_pairs: Path, tmp_path: Path) -> None:
    settings = {"benchmarks": {"pairs": str(test_pairs)}}
    results, folder = done(tmp_path, evaluation=settings)
    assert results["pairs"]["overall"]["n"] == 13
    assert results["contamination"]["pairs"]["exact"] == 1
    listed = [json.loads(line) for line in (folder / "evaluation" / "contamination.jsonl").read_text().splitlines()]
    assert [match["benchmark"] for match in listed if match["kind"] == "exact"] == ["pairs"]
    assert "- pairs, overall: " in evaluation_section(results)
    found = {"arm": {"runs": {"0": run_entry(results)}}}
    assert "pairs.overall" in shown_metrics(found, None)
    before = run_bytes(folder)
    assert done(tmp_path, evaluation=settings)[0] == results
    assert run_bytes(folder) == before


def test_the_same_command_scores_the_model_alone(test_pairs: Path, tmp_path: Path) -> None:
    results, folder = done(tmp_path, evaluation={"benchmarks": {"pairs": str(test_pairs)}})
    asked = ["--benchmark", f"pairs={test_pairs}", "--max-length", "256", "--output", str(tmp_path / "alone")]
    shown = cli("evaluate", folder / "model", *asked)
    assert shown.returncode == 0, shown.stderr
    alone = json.loads((tmp_path / "alone" / "results.json").read_text())
    assert alone["benchmarks"]["pairs"]["metrics"] == results["pairs"]
    assert alone["contamination"]["benchmarks"]["pairs"]["exact"] == 1  # the run's own pairs lie beside its model


def test_a_model_that_reads_critiques_gets_them(test_pairs: Path, tmp_path: Path) -> None:
    results, folder = done(tmp_path, method="synrm", evaluation={"benchmarks": {"pairs": str(test_pairs)}})
    assert results["pairs"]["overall"]["n"] == 13
    (cost,) = [row for row in results["cost"] if row["step"] == "evaluate: critique"]
    assert cost["calls"] >= 2 * 13
    asked = ["--benchmark", f"pairs={test_pairs}", "--max-length", "256", "--output", str(tmp_path / "alone")]
    shown = cli("evaluate", folder / "model", *asked)
    assert shown.returncode != 0
    assert "critique" in shown.stderr
    path = write_config(tmp_path, method="synrm")
    shown = cli("evaluate", folder / "model", *asked, "--teacher", path)
    assert shown.returncode == 0, shown.stderr
    alone = json.loads((tmp_path / "alone" / "results.json").read_text())
    assert alone["benchmarks"]["pairs"]["metrics"] == results["pairs"]


def test_a_benchmark_is_checked_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none of rewardbench"):
        done(tmp_path, evaluation={"benchmarks": {"reward_bench": None}})
    with pytest.raises(BenchmarkError, match="there is no such file"):
        done(tmp_path, evaluation={"benchmarks": {"pairs": str(tmp_path / "missing.jsonl")}})
    assert not (tmp_path / "run" / "ledger.sqlite").exists()


def test_another_test_file_is_another_run(test_pairs: Path, tmp_path: Path) -> None:
    config = parse_config(micro_config(tmp_path, evaluation={"benchmarks": {"pairs": str(test_pairs)}}))
    before = Store(tmp_path).key(config)
    assert Store(tmp_path).key(config) == before
    write_rows(test_pairs, [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    assert Store(tmp_path).key(config) != before
