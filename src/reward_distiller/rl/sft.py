"""Supervised fine-tuning on demonstrations with TRL's SFTTrainer: only responses, end tokens included, are learned.

Knows no rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reward_distiller.config import RLConfig
from reward_distiller.model.training_log import TrainingLog
from reward_distiller.records import Prompt
from reward_distiller.rl.on_trl import Steps, common_settings, import_trl, last_whole, quiet, without_printer
from reward_distiller.rl.policy import Policy


def train(
    config: RLConfig, policy: Policy, rows: Sequence[tuple[Prompt, str]], folder: Path, key: str, log: TrainingLog
) -> None:
    """Train the policy in place, from its last checkpoint where there is one of the same inputs."""
    trl = import_trl()
    from datasets import Dataset

    quiet()
    checkpoints = folder / "checkpoints"
    resumed, _ = last_whole(checkpoints, key, log)
    size = config.sft.rows_per_step
    batch = max(n for n in range(1, min(config.optimization.rows_per_batch, size) + 1) if size % n == 0)
    data = [
        {"prompt": prompt.as_dicts(), "completion": [{"role": "assistant", "content": response}]}
        for prompt, response in rows
    ]
    settings = trl.SFTConfig(
        **common_settings(config, checkpoints),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=size // batch,
        num_train_epochs=config.sft.epochs,
        logging_steps=1,
        save_steps=config.optimization.checkpoint_every,
        max_length=config.rollout.max_prompt_length + config.rollout.max_response_length,
        completion_only_loss=True,
        packing=False,
    )
    trainer = trl.SFTTrainer(
        model=policy.lm,
        args=settings,
        train_dataset=Dataset.from_list(data),
        processing_class=policy.chat.tokenizer,
        callbacks=[Steps(log, key, 1)],
    )
    without_printer(trainer)
    trainer.train(resume_from_checkpoint=resumed)
