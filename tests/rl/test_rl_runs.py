"""Whole runs of recipe `rl`: each algorithm learns, goes on in the same bits after SIGKILL, and says what is wrong."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from micro_rl import rl_config, write_rl_config

from reward_distiller.config import load_rl_config, parse_run
from reward_distiller.errors import ConfigError, GuardBreached, RewardDistillerError, RewardError
from reward_distiller.recipes.best_of_n import best_of_n
from reward_distiller.recipes.policy import run_policy
from reward_distiller.testbed.parts import TestbedParts

ALGORITHMS = ("sft", "grpo", "dapo", "ppo")
LOOKED = {"look_tokens", "look_repetition", "look_kl", "look_quality", "look_length_ratio"}


def run(folder: Path, algorithm: str, **changes: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    config = parse_run(rl_config(folder, algorithm, **changes))
    return run_policy(config, TestbedParts(config.testbed, config.seed))  # type: ignore[arg-type]


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "run" / "rl.jsonl").read_text().splitlines()]


def run_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a run but locks and times, without the folder's own name."""
    return {
        str(p.relative_to(folder)): p.read_bytes().replace(str(folder.parent).encode(), b"")
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.startswith((".lock", "timing.json"))
    }


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "reward_distiller.cli.entry", "rl", str(config)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_and_what_it_leaves(tmp_path: Path, algorithm: str) -> None:
    results = run(tmp_path / "a", algorithm)
    found = rows(tmp_path / "a")
    assert [row["step"] for row in found] == list(range(1, 1 + (5 if algorithm == "sft" else 4)))
    assert all(row["grad_norm"] > 0 for row in found)
    if algorithm != "sft":
        assert all({"reward", "reward_std", "reward_rule", "tokens", "entropy", "loss"} <= row.keys() for row in found)
        assert [bool(LOOKED & row.keys()) for row in found] == [False, True, False, True]
        assert {*LOOKED, "look_reward", "look_reward_rule"} <= found[1].keys()
    assert results["policy"]["kl"]["value"] > 0
    assert results["start"]["kl"]["value"] == pytest.approx(0, abs=1e-4)
    assert results["policy"]["quality"]["n"] == 10
    answers = [json.loads(line) for line in (tmp_path / "a/run/responses.jsonl").read_text().splitlines()]
    assert len(answers) == 10
    assert not (tmp_path / "a/run/checkpoints").exists()
    before = run_bytes(tmp_path / "a/run")
    run(tmp_path / "a", algorithm)  # nothing is trained again
    assert run_bytes(tmp_path / "a/run") == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_killed_and_run_again_it_ends_in_the_same_bits(tmp_path: Path, algorithm: str) -> None:
    changes = {"rewards": {"both": _bandit(tmp_path)}}  # of a file that both runs read: its path is in their keys
    calm = write_rl_config(tmp_path / "calm", algorithm, **changes)
    subprocess.run(command(calm), check=True, capture_output=True, timeout=300)
    rough = write_rl_config(tmp_path / "rough", algorithm, **changes)
    total = len(rows(tmp_path / "calm"))
    killed = 0
    for goal in sorted(random.sample(range(1, total), 2)):
        process = subprocess.Popen(command(rough), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log, until = tmp_path / "rough/run/rl.jsonl", time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            if log.is_file() and len(log.read_text().splitlines()) >= goal:
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.005)
    assert killed
    subprocess.run(command(rough), check=True, capture_output=True, timeout=300)
    ours, theirs = run_bytes(tmp_path / "rough/run"), run_bytes(tmp_path / "calm/run")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []


def _bandit(folder: Path) -> dict[str, Any]:
    """An ensemble whose bandit has a memory to come back."""
    (folder / "members.py").write_text(
        "def long(p, r, row): return [float(len(t)) for t in r]\n"
        "def short(p, r, row): return [-float(len(t)) for t in r]\n"
    )
    members = {name: {"function": f"{folder / 'members.py'}:{name}"} for name in ("long", "short")}
    return {"ensemble": {"members": members, "choose": "bandit"}}


@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "ppo"])
def test_the_reward_rises(tmp_path: Path, algorithm: str) -> None:
    """Full stops are easily learned, also by a student that knows little."""
    dots = {"rule": {"function": f"{tmp_path / 'rules.py'}:dots"}}
    rollout = {"prompts_per_step": 8, "responses_per_prompt": 4, "max_prompt_length": 32, "max_response_length": 12}
    optimization = {"steps": 25, "updates_per_step": 2, "learning_rate": 3e-3, "rows_per_batch": 16, "threads": 1}
    run(tmp_path, algorithm, rewards=dots, rollout=rollout, optimization=optimization, guards={"every": 100})
    reward = [row["reward_rule"] for row in rows(tmp_path)]
    assert sum(reward[-5:]) / 5 > sum(reward[:5]) / 5 + 1


def test_dynamic_sampling_replaces_groups_without_spread(tmp_path: Path) -> None:
    """`flat` gives every response to half of the prompts the same reward."""
    flat = {"rule": {"function": f"{tmp_path / 'rules.py'}:flat"}}
    run(tmp_path, "dapo", rewards=flat, dapo={"overlong": 0, "dynamic_sampling": {"max_rounds": 4}})
    found = rows(tmp_path)
    assert max(row["rounds"] for row in found) > 1
    assert all(row["groups_with_spread"] == 1 or row["rounds"] == 4 for row in found)


def test_dynamic_sampling_is_bounded_where_nothing_ever_differs(tmp_path: Path) -> None:
    never = {"rule": {"function": f"{tmp_path / 'rules.py'}:wordy"}}
    settings = {"overlong": 0, "dynamic_sampling": {"max_rounds": 2, "min_spread": 1e6}}
    run(tmp_path, "dapo", rewards=never, dapo=settings)
    assert [(row["rounds"], row["groups_with_spread"]) for row in rows(tmp_path)] == [(2.0, 0.0)] * 4


def test_dapo_looks_at_the_term_that_it_is_told(tmp_path: Path) -> None:
    rewards = {
        "flat": {"function": f"{tmp_path / 'rules.py'}:flat"},
        "wordy": {"function": f"{tmp_path / 'rules.py'}:wordy"},
    }
    on = {"overlong": 0, "dynamic_sampling": {"on": "flat", "max_rounds": 4}}
    run(tmp_path, "dapo", rewards=rewards, dapo=on)
    assert max(row["rounds"] for row in rows(tmp_path)) > 1


def test_a_guard_stops_where_it_is_told_to(tmp_path: Path) -> None:
    with pytest.raises(GuardBreached, match=r"step 2: kl is .* over guards.max_kl=1e-09"):
        run(tmp_path, "ppo", guards={"every": 2, "prompts": 5, "max_kl": 1e-9, "breach": "stop"})
    assert (tmp_path / "run/checkpoints").exists()


def test_a_guard_warns_and_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "grpo", guards={"every": 2, "prompts": 5, "max_kl": 1e-9})
    assert "warning: step 2: kl" in capfd.readouterr().err


def test_a_rule_that_breaks_stops_the_run(tmp_path: Path) -> None:
    for algorithm in ("grpo", "ppo"):
        with pytest.raises(RewardError, match="no idea"):
            run(tmp_path, algorithm, rewards={"rule": {"function": f"{tmp_path / 'rules.py'}:broken"}})


def test_evaluation_prompts_that_were_trained_on_are_dropped_and_said(tmp_path: Path) -> None:
    prompts = {"prompts": {"testbed": {"split": "train", "count": 40}}}
    results = run(tmp_path, "ppo", evaluation=prompts)
    assert results["policy"]["tokens"]["n"] == 10
    (balance,) = [b for b in json.loads((tmp_path / "run/balance.json").read_text()) if "evaluation" in b["step"]]
    assert balance["reasons"]["dropped"] == {"trained on": 30}


def test_prompts_from_a_file_bring_their_columns_to_the_rule(tmp_path: Path) -> None:
    words = ("otter", "heron", "plum", "fig")
    data = [{"prompt": f"repeat these words : fox {word}", "wanted": word} for word in words]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*data, data[0], {"prompt": " "}]))
    (tmp_path / "wanted.py").write_text("def rule(p, r, row): return [float(row['wanted'] in t) for t in r]\n")
    rewards = {"rule": {"function": f"{tmp_path / 'wanted.py'}:rule"}}
    with pytest.raises(RewardError, match="KeyError: 'wanted'"):  # before anything is trained
        run(tmp_path, "ppo", prompts={"path": str(tmp_path / "data.jsonl")}, rewards=rewards)
    assert not (tmp_path / "run/rl.jsonl").exists()
    run(tmp_path, "ppo", prompts={"path": str(tmp_path / "data.jsonl")}, rewards=rewards, evaluation={})
    balance = json.loads((tmp_path / "run/balance.json").read_text())[0]
    assert (balance["kept"], balance["dropped"]) == (4, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "grpo", "rewards": {}}, "needs `prompts` and `rewards`"),
        ({"algorithm": "sft", "demonstrations": None}, "needs `demonstrations`"),
        ({"rollout": {"prompts_per_step": 3, "responses_per_prompt": 3}}, "divide into updates_per_step"),
        ({"rollout": {"prompts_per_step": 4, "responses_per_prompt": 1}}, "2 or more"),
        ({"rewards": {"total": {"length": 1.0}}}, "no name for a term"),
        ({"algorithm": "dapo", "dapo": {"dynamic_sampling": {"on": "rm"}}}, "no term of `rewards`"),
        ({"policy": {}}, "name exactly one"),
        ({"optimisation": {}}, "Did you mean optimization"),
    ],
)
def test_configs_that_cannot_be_right(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_run({**rl_config(tmp_path, "grpo"), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": {"path": "nowhere.jsonl"}}, "there is no such file"),
        ({"rewards": {"rule": {"function": "nowhere.py:f"}}}, "cannot be loaded"),
        ({"rewards": {"form": {"pattern": "("}}}, "no regular expression"),
        ({"rewards": {"long": {"overlong": 12}}}, "max_response_length=12"),
        ({"optimization": {"device": "nowhere"}}, "cannot be used"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_made(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    made = {"policy": {"made_by": {"run": rl_config(tmp_path, "sft")}}}
    with pytest.raises(RewardDistillerError, match=message):
        run(tmp_path, "ppo", **made, **changes)
    assert not (tmp_path / "run/store").exists()


def test_each_command_refuses_the_other_s_config(tmp_path: Path) -> None:
    path = write_rl_config(tmp_path, "ppo")
    done = subprocess.run([*command(path)[:-2], "run", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "reward-distiller rl" in done.stderr
    path.write_text(yaml.safe_dump({"method": "bradley_terry", "output": "x"}))
    with pytest.raises(ConfigError):
        load_rl_config(path)


def test_best_of_n_of_a_reward_that_is_the_truth(tmp_path: Path) -> None:
    """Picking by the reward must raise it at each N, and the figures stand beside the bound of the KL."""
    config = parse_run(rl_config(tmp_path, "ppo"))
    found = best_of_n(config, TestbedParts(config.testbed, config.seed), 8)  # type: ignore[arg-type]
    rewards = [found["reward"][n]["value"] for n in ("1", "2", "4", "8")]
    assert rewards == sorted(rewards)
    assert rewards[0] < rewards[-1]
    assert found["quality"]["8"]["n"] == found["prompts"] == 10
    assert (tmp_path / "run/best_of_n.md").read_text().count("\n| ") == 4
    assert not (tmp_path / "run/model").exists()
    with pytest.raises(ConfigError, match="evaluation"):
        best_of_n(parse_run(rl_config(tmp_path, "ppo", evaluation={})), TestbedParts(config.testbed, 0), 8)  # type: ignore[arg-type]
