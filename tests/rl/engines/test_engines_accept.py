"""The engines' own schemas take what is emitted. `make test-engines` makes their environment and runs this."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reward_distiller.config import load_rl_config
from reward_distiller.rl.emit import emit

PYTHON = os.environ.get("ENGINES_PYTHON")
CONFIGS = Path(__file__).parents[3] / "configs"
ALGORITHMS = ("ppo", "grpo", "dapo")
CASES = [("verl", a, []) for a in ALGORITHMS] + [
    ("openrlhf", "ppo", []),
    ("openrlhf", "grpo", ["grpo.kl=0.01", "grpo.scale=none"]),
    ("openrlhf", "dapo", ["dapo.dynamic_sampling=null"]),
    ("verl", "ppo", ["ppo.kl=0.1", "ppo.critic_warmup=3", 'policy.model="a b=c,$x]\'"']),
    ("verl", "dapo", ["dapo.overlong=0", "dapo.dynamic_sampling.on=rm", "dapo.kl=0.1"]),
]

pytestmark = pytest.mark.skipif(PYTHON is None, reason="the engines' environment is made by `make test-engines`")


def accepted(script: Path) -> int:
    command = [str(PYTHON), str(Path(__file__).with_name("accepts.py")), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.parametrize(("engine", "algorithm", "changes"), CASES)
def test_an_engine_takes_every_option(tmp_path: Path, engine: str, algorithm: str, changes: list[str]) -> None:
    config = load_rl_config(CONFIGS / "rl-paper.yaml", [f"algorithm={algorithm}", *changes])
    emit(config, str(config.policy.model), engine, tmp_path / engine)
    assert accepted(tmp_path / engine / "launch.sh") > 40


@pytest.mark.parametrize("engine", ["verl", "openrlhf"])
def test_an_engine_takes_sft(tmp_path: Path, engine: str) -> None:
    config = load_rl_config(CONFIGS / "rl-paper-sft.yaml")
    emit(config, str(config.policy.model), engine, tmp_path / engine)
    assert accepted(tmp_path / engine / "launch.sh") >= 20


@pytest.mark.parametrize(("engine", "line"), [("verl", "actor_rollout_ref.no_such=1"), ("openrlhf", "--actor.no_such")])
def test_the_check_itself_fails_for_an_option_that_is_none(tmp_path: Path, engine: str, line: str) -> None:
    config = load_rl_config(CONFIGS / "rl-paper.yaml")
    emit(config, str(config.policy.model), engine, tmp_path / engine)
    script = tmp_path / engine / "launch.sh"
    script.write_text(script.read_text().replace("options=(\n", f"options=(\n  {line}\n"))
    with pytest.raises(AssertionError):
        accepted(script)
