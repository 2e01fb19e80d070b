"""Comparisons of policies: what they stand on is made once and shared, and an arm may have a base of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from micro_rl import rl_config

from reward_distiller.config import Config, RLConfig, load_comparison, load_rl_config, load_run
from reward_distiller.recipes.compare import planned
from reward_distiller.recipes.made import jobs_below
from reward_distiller.recipes.store import Store


def write(folder: Path) -> Path:
    """An SFT run, an RL run on it and on a reward model, and their comparison. All paths are relative."""
    (folder / "configs").mkdir(parents=True)
    world = {"pretrain_steps": 5, "pretrain_threads": 1, "cache": "testbed"}
    sft = {**rl_config(folder, "sft"), "output": "unused", "testbed": world}
    rm = {
        "method": "bradley_terry",
        "output": "unused",
        "prompts": {"testbed": {"count": 30}},
        "candidates": [{"model": m, "base_url": "testbed"} for m in ("novice", "expert")],
        "teacher": {"model": "teacher", "base_url": "testbed"},
        "student": {"model": "testbed"},
        "training": {"learning_rate": 1e-3, "threads": 1, "max_length": 256},
        "testbed": world,
    }
    rl = {**rl_config(folder, "ppo"), "output": "unused", "testbed": world, "policy": {"made_by": "sft.yaml"}}
    rl["rewards"] = {"rm": {"made_by": {"run": "rm.yaml", "changes": ["training.epochs=1"]}, "center": "recorded"}}
    comparison = {
        "recipe": "compare",
        "output": "out",
        "base": "rl.yaml",
        "seeds": [0],
        "arms": {
            "SFT": ["base=sft.yaml"],
            "PPO": [],
            "twice": ["rewards.rm.made_by.changes=[training.epochs=2]", "optimization.steps=2"],
        },
        "pairs": {"twice": "PPO"},
    }
    for name, data in {"sft": sft, "rm": rm, "rl": rl, "comparison": comparison}.items():
        (folder / "configs" / f"{name}.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return folder / "configs" / "comparison.yaml"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return path.relative_to(tmp_path)


def test_a_config_holds_the_runs_that_it_stands_on(there: Path) -> None:
    config = load_rl_config(there.with_name("rl.yaml"), ["seed=3"])
    made = {place: run.run for place, run in config.made.items()}
    assert made.keys() == {"policy", "rewards.rm"}
    assert all(isinstance(run, dict) and run["seed"] == 3 for run in made.values())
    again = there.with_name("again.yaml")
    again.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_rl_config(again).model_dump() == config.model_dump()


def test_a_change_of_what_it_stands_on_changes_its_key(there: Path) -> None:
    store = Store(Path("store"))
    one = load_rl_config(there.with_name("rl.yaml"))
    other = load_rl_config(there.with_name("rl.yaml"), ["rewards.rm.made_by.changes=[training.epochs=2]"])
    elsewhere = load_rl_config(there.with_name("rl.yaml"), ["output=x", "store=y", "testbed.cache=z", "grpo.clip=0.3"])
    assert store.key(one) != store.key(other)
    assert store.key(one) == store.key(elsewhere)  # places, and another algorithm's section


def test_what_runs_stand_on_is_planned_once(there: Path) -> None:
    comparison = load_comparison(there)
    store = Store(comparison.store_path)
    runs = planned(comparison, store)
    assert [type(run.config) for run in runs] == [RLConfig] * 3
    jobs = jobs_below([run.config for run in runs], store)
    assert not any(job.after & {other.folder for other in jobs} for job in jobs)
    assert sorted(job.arguments[0] for job in jobs) == ["rl", "run", "run"]
    sft = next(run for run in runs if run.arm == "SFT")
    assert store.place(sft.key) in [job.folder for job in jobs]  # the arm is the run that the others stand on


def test_a_whole_comparison_of_policies(there: Path) -> None:
    command = [sys.executable, "-m", "reward_distiller.cli.entry", "compare", str(there)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(Path("out/results.json").read_text())
    for name, arm in results["arms"].items():
        figures = arm["runs"]["0"]["figures"]
        assert {"policy.quality", "policy.tokens", "policy.kl", "start.quality"} <= figures.keys()
        assert ("policy.reward_rm" in figures) == (name != "SFT")
    assert "| twice − PPO |" in Path("out/table.md").read_text()
    assert Path("out/curves.svg").is_file()
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "0 to do" in again.stderr


def test_configs_of_both_recipes_load_by_one_door(there: Path) -> None:
    assert isinstance(load_run(there.with_name("rm.yaml")), Config)
    assert isinstance(load_run(there.with_name("rl.yaml")), RLConfig)
