"""Every shipped config loads, and every shipped comparison plans its runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

import reward_distiller.testbed
from reward_distiller.config import load_comparison, load_config, load_run
from reward_distiller.recipes.compare import planned
from reward_distiller.recipes.store import Store

CONFIGS = Path(__file__).parents[1] / "configs"
COMPARISONS = [path for path in sorted(CONFIGS.glob("*.yaml")) if "\nrecipe: compare\n" in path.read_text("utf-8")]
DEMO = Path(reward_distiller.testbed.__file__).parent / "demo-compare.yaml"
LAUNCHES = sorted(CONFIGS.glob("accelerate-*.yaml"))
RUNS = [path for path in sorted(CONFIGS.glob("*.yaml")) if path not in [*COMPARISONS, *LAUNCHES]]


def test_there_are_configs() -> None:
    assert RUNS
    assert COMPARISONS


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_config_loads(path: Path) -> None:
    config = load_run(path)
    assert config.output.startswith("runs/")
    assert not Path(config.output).is_absolute()


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.name)
def test_launch_configs_are_what_accelerate_reads(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.distributed_type == "FSDP"
    assert config.fsdp_config["fsdp_version"] == 2
    assert config.mixed_precision == "no"  # training.precision says it


@pytest.mark.parametrize("path", [*COMPARISONS, DEMO], ids=lambda path: path.name)
def test_comparisons_plan_runs_that_differ(path: Path) -> None:
    comparison = load_comparison(path)
    assert comparison.output.startswith("runs/")
    runs = planned(comparison, Store(comparison.store_path))
    assert len({run.key for run in runs}) == len(comparison.arms) * len(comparison.seeds)


@pytest.mark.parametrize("name", ["alpaca-eval", "ultrafeedback"])
def test_a_hub_student_is_one_change_in_all_arms(name: str) -> None:
    changes = ['changes=["student={model: Qwen/Qwen2.5-3B-Instruct}"]']  # as the comment in the config says
    comparison = load_comparison(CONFIGS / f"compare-{name}.yaml", changes)
    assert changes[0] in (CONFIGS / f"{name}.yaml").read_text("utf-8")
    runs = planned(comparison, Store(comparison.store_path))
    assert {run.config.student.model for run in runs} == {"Qwen/Qwen2.5-3B-Instruct"}
    assert {run.config.training.learning_rate for run in runs} == {1e-5}


@pytest.mark.parametrize("name", ["alpaca-eval.yaml", "ultrafeedback.yaml"])
def test_a_hub_student_is_one_override(name: str) -> None:
    config = load_config(CONFIGS / name, ["student={model: Qwen/Qwen2.5-3B-Instruct}"])
    assert config.student.model == "Qwen/Qwen2.5-3B-Instruct"
    assert config.student.from_scratch is None
    assert config.student.chat_template is None
    assert config.training.learning_rate == 1e-5
    assert load_config(CONFIGS / name).training.learning_rate == 1e-3


def test_the_paper_s_settings() -> None:
    for name, beta in (("openai-teacher.yaml", 0.0), ("vllm-teacher.yaml", 0.2)):
        config = load_config(CONFIGS / name)
        assert config.scenario == "unlabeled"
        assert len(config.candidates) == 4
        assert (config.rm_distiller.alpha, config.rm_distiller.beta) == (0.2, beta)
        training = config.training
        assert (training.epochs, training.pairs_per_step, training.learning_rate) == (1, 16, 1e-5)
        assert training.max_length == 1024
        assert config.prompts is not None
        assert config.prompts.limit == 10_000
