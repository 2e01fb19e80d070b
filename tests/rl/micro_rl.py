"""A run of recipe `rl` that takes seconds: few prompts and steps, a student that is barely pretrained, a rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

RULES = '''"""Rules for tests."""


def wordy(prompt, responses, row):
    return [float(len(set(text.split()))) for text in responses]


def dots(prompt, responses, row):
    return [float(text.count(".")) for text in responses]


def flat(prompt, responses, row):
    return [0.0 if len(prompt[-1]["content"]) % 2 else float(len(text)) for text in responses]


def broken(prompt, responses, row):
    raise ValueError("no idea")
'''


def rl_config(folder: Path, algorithm: str, **changes: Any) -> dict[str, Any]:
    (folder / "rules.py").write_text(RULES)
    config: dict[str, Any] = {
        "recipe": "rl",
        "algorithm": algorithm,
        "output": str(folder / "run"),
        "policy": {"model": "testbed"},
        "prompts": {"testbed": {"split": "train", "count": 30}},
        "demonstrations": {"testbed": {"split": "train", "count": 40}},
        "rewards": {"rule": {"function": f"{folder / 'rules.py'}:wordy"}},
        "rollout": {
            "prompts_per_step": 4,
            "responses_per_prompt": 2,
            "max_prompt_length": 32,
            "max_response_length": 12,
        },
        "optimization": {
            "steps": 4,
            "updates_per_step": 2,
            "learning_rate": 1e-3,
            "rows_per_batch": 2,
            "checkpoint_every": 1,
            "threads": 1,
            "device": "cpu",
        },
        "ppo": {"critic_learning_rate": 1e-3},
        "sft": {"rows_per_step": 8},
        "guards": {"every": 2, "prompts": 5},
        "evaluation": {"prompts": {"testbed": {"split": "test", "count": 10}}},
        "testbed": {"pretrain_steps": 20, "pretrain_threads": 1, "cache": str(folder.parent / "testbed")},
    }
    return {**config, **changes}


def write_rl_config(folder: Path, algorithm: str, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(rl_config(folder, algorithm, **changes)))
    return path
