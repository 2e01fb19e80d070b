"""The estimate of a policy's memory, against real trainings that are small, and against what can be counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from reward_distiller.config import parse_run
from reward_distiller.model.memory import Shape
from reward_distiller.rl.memory import policy_memory

FACTOR = 1.5  # that docs/rl.md states
TESTS = Path(__file__).parents[1]
SHAPE = {"vocabulary": 4000, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8}
SHAPE |= {"num_key_value_heads": 8, "intermediate_size": 768}


def settings(algorithm, **changes):
    given = {"recipe": "rl", "algorithm": algorithm, "output": "run", "policy": {"model": "some/policy"}}
    given |= {"prompts": {"path": "p.jsonl"}, "demonstrations": {"path": "d.jsonl"}, "rewards": {"r": {"length": 1.0}}}
    return parse_run({**given, **changes})


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no peak that can be reset")
@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "sft"])
def test_the_peak_of_a_real_training_is_within_the_stated_factor(tmp_path, algorithm):
    if algorithm != "ppo":
        pytest.importorskip("trl")
    child = subprocess.run(
        [
            sys.executable,
            str(TESTS / "rl" / "policy_memory_child.py"),
            str(tmp_path),
            json.dumps({"algorithm": algorithm, "shape": SHAPE}),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={"PYTHONPATH": ":".join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert child.returncode == 0, child.stderr
    measured = json.loads(child.stdout.splitlines()[-1])
    assert measured["peak"] / FACTOR < measured["estimate"] < measured["peak"] * FACTOR, measured


def test_who_trains_and_who_stands_still_is_counted():
    shape = Shape.of(transformers.LlamaConfig(hidden_size=64, num_hidden_layers=2, intermediate_size=128))
    lm = shape.backbone + shape.lm_head
    ppo, grpo, sft = (policy_memory(shape, settings(name)) for name in ("ppo", "grpo", "sft"))
    assert ppo.policy == grpo.policy == 16 * lm
    assert (ppo.critic, grpo.critic) == (16 * shape.backbone, 0)
    assert (ppo.references, grpo.references) == (2 * 4 * lm, 4 * lm)
    assert policy_memory(shape, settings("grpo", grpo={"kl": 0.1})).references == 2 * 4 * lm
    assert policy_memory(shape, settings("ppo"), [shape, shape]).reward_models == 8 * (shape.backbone + 64)
    assert sft.sampling == 0
    assert grpo.sampling > ppo.sampling  # TRL's trainer generates a whole rollout at once


def test_less_is_estimated_for_what_is_said_to_save_it():
    shape = Shape.of(transformers.LlamaConfig(hidden_size=256, num_hidden_layers=8, intermediate_size=512))
    short = {"max_prompt_length": 128, "max_response_length": 64}  # of long ones ppo takes one row at a time anyway
    for algorithm in ("ppo", "grpo"):
        whole, fewer, checkpointed = (
            policy_memory(shape, settings(algorithm, rollout=short, guards={"prompts": 1}, optimization=each)).update
            for each in ({}, {"rows_per_batch": 1}, {"gradient_checkpointing": True})
        )
        assert max(fewer, checkpointed) < whole
    small = {"prompts_per_step": 8, **short}
    assert policy_memory(shape, settings("grpo", rollout=small)).total < policy_memory(shape, settings("grpo")).total
