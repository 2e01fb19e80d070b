"""GRPO (Shao et al., 2024) and DAPO (Yu et al., 2025) on TRL's GRPOTrainer.

DAPO is its loss over tokens with clip-higher; the soft overlong punishment is a term of the reward, and dynamic
sampling is `dynamic_sampling.py`'s. Knows no networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reward_distiller.rl.on_trl import Steps, common_settings, import_trl, last_whole, quiet, without_printer
from reward_distiller.rl.policy import Sampled
from reward_distiller.rl.training import Training


def train(training: Training) -> None:
    """Train the policy in place, from its last checkpoint where there is one of the same inputs."""
    trl = import_trl()
    from datasets import Dataset

    from reward_distiller.rl.dynamic_sampling import trainer_class

    quiet()
    config, policy = training.config, training.policy
    resumed, state = last_whole(training.checkpoints, training.key, training.log)
    training.reward.restore(state)
    updates = config.optimization.updates_per_step * config.optimization.epochs_per_step
    steps = Steps(
        training.log,
        training.key,
        updates,
        lambda step: training.look(step) if training.looks_at(step) else {},
        lambda: training.reward.state,
    )
    scoring = Scoring(training, steps)
    rows = [{"prompt": task.prompt.as_dicts(), "number": at} for at, task in enumerate(training.tasks)]
    trainer = trainer_class(config)(
        model=policy.lm,
        reward_funcs=[scoring],
        args=trl.GRPOConfig(**common_settings(config, training.checkpoints), **_settings(training, updates)),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.chat.tokenizer,
        callbacks=[steps],
    )
    without_printer(trainer)
    if dynamic := (config.algorithm == "dapo" and config.dapo.dynamic_sampling):
        trainer.resample(dynamic, scoring, config.seed, steps.figures)
    trainer.train(resume_from_checkpoint=resumed)


class Scoring:
    """TRL's reward function: our reward of its completions. `scored` is the last call's."""

    __name__ = "total"

    def __init__(self, training: Training, steps: Steps):
        self.training, self.steps = training, steps

    def __call__(
        self, prompts: Sequence[Any], completions: Any, completion_ids: Any, number: Any, **_: Any
    ) -> list[float]:
        tasks = [self.training.tasks[at] for at in number]
        ends = self.training.policy.ends
        sampled = [
            Sampled(task.opening, tuple(ids), ids[-1] in ends, turns[-1]["content"].strip())
            for task, turns, ids in zip(tasks, completions, completion_ids, strict=True)
        ]
        self.scored, figures = self.training.score(tasks, sampled)
        self.steps.figures.append(figures)
        return self.scored.total


def _settings(training: Training, updates: int) -> dict[str, Any]:
    config, own = training.config, training.config.optimization
    rows_per_update = config.rollout.prompts_per_step * config.responses_per_prompt // own.updates_per_step
    rows = max(n for n in range(1, min(own.rows_per_batch, rows_per_update) + 1) if rows_per_update % n == 0)
    batches = rows_per_update // rows
    return {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": batches,
        "steps_per_generation": batches * own.updates_per_step,
        "num_iterations": own.epochs_per_step,
        "max_steps": own.steps * updates,
        "logging_steps": updates,
        "save_steps": own.checkpoint_every * updates,
        "num_generations": config.responses_per_prompt,
        "max_completion_length": config.rollout.max_response_length,
        "temperature": config.rollout.temperature,
        "top_p": config.rollout.top_p,
        "generation_kwargs": {"eos_token_id": training.policy.ends},
        "disable_dropout": True,
        "remove_unused_columns": False,
        **(_dapo(training) if config.algorithm == "dapo" else _grpo(training)),
    }


def _grpo(training: Training) -> dict[str, Any]:
    own = training.config.grpo
    return {"loss_type": "grpo", "epsilon": own.clip, "beta": own.kl, "scale_rewards": own.scale}


def _dapo(training: Training) -> dict[str, Any]:
    own = training.config.dapo
    return {
        "loss_type": "dapo",
        "epsilon": own.clip_low,
        "epsilon_high": own.clip_high,
        "beta": own.kl,
        "scale_rewards": own.scale,
    }
