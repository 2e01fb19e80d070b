"""What is written for verl and OpenRLHF: the paper's table 9, quoting, rewards, data, and what is refused."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from reward_distiller.config import RLConfig, load_rl_config
from reward_distiller.errors import ConfigError
from reward_distiller.recipes.policy import emit_for
from reward_distiller.recipes.store import store_of
from reward_distiller.rl.emit import emit
from reward_distiller.rl.emit.data import write_data
from reward_distiller.testbed.parts import TestbedParts

CONFIGS = Path(__file__).parents[2] / "configs"
TABLE_9 = {  # of the paper; None where it has a dash
    "data.gen_batch_size": (256, 256, 512),
    "data.train_batch_size": (256, 256, 256),
    "data.max_prompt_length": (1024, 1024, 1024),
    "data.max_response_length": (4096, 4096, 4096),
    "actor_rollout_ref.actor.optim.lr": (3e-6, 3e-6, 3e-6),
    "actor_rollout_ref.actor.ppo_mini_batch_size": (64, 64, 64),
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": (8, 8, 8),
    "actor_rollout_ref.actor.use_kl_loss": (False, False, False),
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": (16, 16, 16),
    "actor_rollout_ref.rollout.n": (1, 8, 8),
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu": (16, 16, 16),
    "critic.optim.lr": (1e-5, None, None),
    "critic.ppo_micro_batch_size_per_gpu": (8, None, None),
    "trainer.n_gpus_per_node": (8, 8, 8),
    "trainer.nnodes": (2, 2, 2),
    "trainer.total_epochs": (10, 10, 10),
}


def paper(*changes: str) -> RLConfig:
    return load_rl_config(CONFIGS / "rl-paper.yaml", list(changes))


def emitted(folder: Path, engine: str, config: RLConfig) -> list[str]:
    """The options of the launch script."""
    emit(config, str(config.policy.model), engine, folder)
    subprocess.run(["bash", "-n", str(folder / "launch.sh")], check=True)
    return shlex.split((folder / "launch.sh").read_text().split("options=(\n")[1].split("\n)\n")[0])


def as_dict(options: list[str]) -> dict[str, Any]:
    pairs = (option.partition("=") for option in options)
    return {key: yaml.safe_load(re.sub(r"^(\d+)e-", r"\1.0e-", value)) for key, _, value in pairs}


@pytest.mark.parametrize(("at", "algorithm"), enumerate(["ppo", "grpo", "dapo"]))
def test_the_paper_s_table_9(tmp_path: Path, at: int, algorithm: str) -> None:
    options = as_dict(emitted(tmp_path / "verl", "verl", paper(f"algorithm={algorithm}")))
    for key, values in TABLE_9.items():
        assert options.get(key) == values[at], key
        assert type(options.get(key)) is type(values[at])


def test_dapo_s_own(tmp_path: Path) -> None:
    options = as_dict(emitted(tmp_path / "verl", "verl", paper("algorithm=dapo")))
    actor = "actor_rollout_ref.actor"
    assert (options[f"{actor}.clip_ratio_low"], options[f"{actor}.clip_ratio_high"]) == (0.2, 0.28)
    assert options[f"{actor}.loss_agg_mode"] == "token-mean"
    assert options["algorithm.filter_groups.enable"] is True
    assert options["+reward.reward_kwargs.overlong_buffer_cfg.len"] == 819
    without = as_dict(emitted(tmp_path / "other", "verl", paper("algorithm=dapo", "dapo.overlong=0")))
    assert not any("overlong" in key and "prompts" not in key for key in without)


def test_hostile_names_stay_one_word(tmp_path: Path) -> None:
    name = "/models/a b'c\"$(touch x);{d}=[e],\\f"
    for engine in ("verl", "openrlhf"):
        config = paper("algorithm=ppo")
        emit(config, name, engine, tmp_path / engine)
        script = (tmp_path / engine / "launch.sh").read_text()
        subprocess.run(["bash", "-n", str(tmp_path / engine / "launch.sh")], check=True)
        options = shlex.split(script.split("options=(\n")[1].split("\n)\n")[0])
        if engine == "openrlhf":
            assert options[options.index("--actor.model_name_or_path") + 1] == name
        else:
            (text,) = [o.partition("=")[2] for o in options if o.startswith("actor_rollout_ref.model.path=")]
            assert text == "'" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"


@pytest.mark.parametrize(
    ("engine", "changes", "message"),
    [
        ("trl", [], "there is no such engine"),
        ("verl", ["rewards.rm.center=batch"], "rewards.rm.center"),
        ("verl", ["algorithm=dapo", "dapo.dynamic_sampling.min_spread=0.1"], "least spread"),
        ("verl", ["grpo.scale=batch"], "group or none"),
        ("verl", ["rollout.prompts_per_step=250"], "equal updates"),
        ("verl", ["policy={model: testbed}"], "testbed"),
        ("verl", ["prompts={testbed: {count: 5}}"], "testbed"),
        ("openrlhf", ["rewards.rule={function: 'a:b'}"], "one server"),
        ("openrlhf", ["rewards.rm.weight=2.0"], "one server"),
        ("openrlhf", ["algorithm=dapo"], "dynamic_sampling=null"),
        (
            "verl",
            ["rewards.both={ensemble: {members: {a: {url: 'http://a'}, b: {url: 'http://b'}}}}"],
            "is an ensemble",
        ),
        ("verl", ["rewards.own={labels: {consensus: given}}"], "known on this machine only"),
        ("openrlhf", ["rewards.own={truth: true}"], "known on this machine only"),
    ],
)
def test_what_an_engine_cannot_honour_is_refused(tmp_path: Path, engine: str, changes: list[str], message: str) -> None:
    config = paper(*changes)
    with pytest.raises(ConfigError, match=message):
        emit(config, str(config.policy.model), engine, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_are_not_made_yet(tmp_path: Path) -> None:
    config = paper(
        "rewards.rm={made_by: {run: {method: bradley_terry, pairs: {path: a}, scenario: labeled, "
        "student: {model: m}, output: o}}}",
        f"output={tmp_path}",
    )
    with pytest.raises(ConfigError, match="not made yet"):
        emit_for(config, TestbedParts(config.testbed, 0), "verl")


def test_prompts_that_another_run_has_written(tmp_path: Path) -> None:
    """A run that writes data has no model: it is there when it has results, and its file stands in what is written."""
    labeled = "{recipe: pseudo_rewards, output: o, prompts: {path: a}, teacher: {model: m}}"
    config = paper(f"prompts=[{{made_by: {{run: {labeled}}}, run_file: prompts.jsonl}}]", f"output={tmp_path}")
    folder = Path(store_of(config).made(config.made["prompts.0"]).output)
    with pytest.raises(ConfigError, match=r"prompts\.0\.made_by.*not made yet"):
        emit_for(config, TestbedParts(config.testbed, 0), "verl")
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    emit_for(config, TestbedParts(config.testbed, 0), "verl")
    assert str(folder / "prompts.jsonl") in "".join(f.read_text() for f in (tmp_path / "verl").glob("*.yaml"))


def test_data_of_several_sources_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "one", "x": 1}\n{"prompt": "two"}\n{"prompt": " "}\n')
    (tmp_path / "b.jsonl").write_text('{"q": "two"}\n{"q": "three \\u0000"}\n')
    sources = f"prompts=[{{path: {tmp_path}/a.jsonl}}, {{path: {tmp_path}/b.jsonl, columns: {{prompt: q}}}}]"
    rows = pq.read_table(write_data("verl", paper(sources), tmp_path / "verl")).to_pylist()
    assert [row["prompt"][0]["content"] for row in rows] == ["one", "two", "three \x00"]
    assert rows[0]["extra_info"]["prompt"] == [{"content": "one", "role": "user"}]
    assert json.loads(rows[0]["extra_info"]["row"])["x"] == 1
    lines = write_data("openrlhf", paper(sources), tmp_path / "openrlhf").read_text().splitlines()
    assert json.loads(lines[2]) == {"prompt": [{"role": "user", "content": "three \x00"}]}


def test_demonstrations(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "one", "response": "1"}\n{"prompt": "two", "response": ""}\n')
    config = load_rl_config(CONFIGS / "rl-paper-sft.yaml", [f"demonstrations={{path: {tmp_path}/a.jsonl}}"])
    (row,) = pq.read_table(write_data("verl", config, tmp_path / "verl")).to_pylist()
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    (line,) = write_data("openrlhf", config, tmp_path / "openrlhf").read_text().splitlines()
    assert json.loads(line)["response"] == [{"role": "assistant", "content": "1"}]


def test_the_data_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reward_distiller.rl.emit.data", "verl", str(tmp_path / "none.yaml"), "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no such config file" in done.stderr
    assert "Traceback" not in done.stderr


def test_verl_s_reward_function_sums_the_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rules.py").write_text(
        "def rule(prompt, responses, row): return [row['x'] + len(prompt[-1]['content']) + len(t) for t in responses]\n"
    )
    rewards = f"rewards={{rule: {{function: '{tmp_path}/rules.py:rule', weight: 2.0}}, form: {{pattern: 'a+'}}}}"
    emit(paper(rewards, "algorithm=ppo"), "m", "verl", tmp_path / "verl")
    spec = importlib.util.spec_from_file_location("emitted_reward", tmp_path / "verl" / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    info = {"prompt": [{"role": "user", "content": "ab"}], "row": '{"x": 10}'}
    found = asyncio.run(module.compute_score("d", "aaa", "", info))
    assert found == {"score": 31.0, "rule": 15.0, "form": 1.0}


def test_a_server_that_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reward_distiller.rl.emit.verl_reward import score_function

    monkeypatch.delenv("REWARD_DISTILLER_URL", raising=False)
    emit(paper(), "m", "verl", tmp_path / "verl")
    score = score_function(tmp_path / "verl" / "rewards.json")
    with pytest.raises(ConfigError, match="REWARD_DISTILLER_URL is not set"):
        asyncio.run(score("d", "a", "", {"prompt": "p"}))
