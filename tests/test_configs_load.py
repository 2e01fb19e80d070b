"""Every shipped config loads, and every shipped arm fits the recorded configs."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from reward_distiller.config import load_config
from reward_distiller.recipes.arms import arm_config, load_arms

CONFIGS = Path(__file__).parents[1] / "configs"
ARMS = sorted(CONFIGS.glob("*-arms.yaml"))
LAUNCHES = sorted(CONFIGS.glob("accelerate-*.yaml"))
RUNS = [path for path in sorted(CONFIGS.glob("*.yaml")) if path not in [*ARMS, *LAUNCHES]]


def test_there_are_configs() -> None:
    assert RUNS
    assert ARMS


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_config_loads(path: Path) -> None:
    config = load_config(path)
    assert config.output.startswith("runs/")
    assert not Path(config.output).is_absolute()


@pytest.mark.parametrize("path", LAUNCHES, ids=lambda path: path.name)
def test_launch_configs_are_what_accelerate_reads(path: Path) -> None:
    config = load_config_from_file(str(path))
    assert config.distributed_type == "FSDP"
    assert config.fsdp_config["fsdp_version"] == 2
    assert config.mixed_precision == "no"  # training.precision says it


@pytest.mark.parametrize("path", ARMS, ids=lambda path: path.name)
@pytest.mark.parametrize("name", ["alpaca-eval.yaml", "ultrafeedback.yaml"])
def test_arms_change_the_config(path: Path, name: str) -> None:
    config = load_config(CONFIGS / name)
    arms = load_arms(path)
    made = {arm: arm_config(config, arm, overrides, Path("runs/x")) for arm, overrides in arms.items()}
    assert len({c.model_copy(update={"output": "", "ledger": ""}).model_dump_json() for c in made.values()}) == len(
        arms
    )
    assert all(c.teacher is None and not c.rm_distiller.refine for c in made.values())
    assert {c.output for c in made.values()} == {f"runs/x/{arm}" for arm in arms}
    assert {c.ledger for c in made.values()} == {"runs/x/ledger.sqlite"}


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
