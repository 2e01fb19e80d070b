"""TRL's side: RewardTrainer, driven through its own `train()`, one optimizer step at each turn.

Runs in .venv-trl (bench/trl-requirements.txt) and knows nothing of our package: it reads a checkpoint folder and pairs
as JSON. Its settings are the fast ones of like budget: fused AdamW, no gradient checkpointing, no logging, saving or
evaluation; SAMPLING is how it draws pairs, `random` (its default) or `group_by_length`.

    python -m bench.trl_worker FOLDER PAIRS_PER_STEP SAMPLING
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoTokenizer, TrainerCallback
from trl import RewardConfig, RewardTrainer

from bench.machine import Slots, peak_memory_mb
from bench.settings import Settings
from bench.turns import Turns


class Known(torch.utils.data.Sampler):
    """An order that has been drawn already."""

    def __init__(self, order: list[int]):
        self.order = order

    def __iter__(self) -> Any:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


class Trainer(RewardTrainer):
    """RewardTrainer with its own order written down, and the losses of its micro-batches."""

    def keep(self, ids: set[str], pairs_per_step: int) -> None:
        """Only these rows are left, with their lengths for the length-grouped sampler.

        That sampler begins with the longest, so the steps that it makes are shuffled: the first are like all.
        """
        rows = self.train_dataset.filter(lambda row: row["id"] in ids)
        longest = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
        self.train_dataset = rows.add_column("length", longest)
        order = list(super()._get_train_sampler(self.train_dataset))
        steps = [order[at : at + pairs_per_step] for at in range(0, len(order) - pairs_per_step + 1, pairs_per_step)]
        random.Random(self.args.seed).shuffle(steps)
        self.order = [row for step in steps for row in step]
        self.losses: list[torch.Tensor] = []

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return Known(self.order)

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        loss = super().compute_loss(*arguments, **options)
        self.losses.append(loss.detach())
        return loss


class OneStepATurn(TrainerCallback):
    """Waits before each optimizer step until it is asked for, and says afterwards what it took."""

    def __init__(self, turns: Turns, trainer: Trainer, settings: Settings):
        self.turns, self.trainer, self.settings = turns, trainer, settings
        self.slots = Slots(trainer.model)
        self.stop: Any = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if self.turns.next()["do"] == "end":
            self.turns.say(peak_memory_mb=peak_memory_mb(self.settings.device))
            raise SystemExit
        self.trainer.losses.clear()
        self.stop = self.slots.start(self.settings.device)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        figures = self.stop()
        self.turns.say(**figures, loss=torch.stack(self.trainer.losses).mean().item())


def conversational(row: dict[str, Any]) -> dict[str, Any]:
    answers = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    return {"id": row["id"], "prompt": row["prompt"]["messages"], **answers}


def main(folder: Path, pairs_per_step: int, sampling: str) -> None:
    turns = Turns()
    settings = Settings.read(folder / "settings.json")
    torch.set_num_threads(settings.threads)
    per_batch = min(settings.trl_pairs_per_batch, pairs_per_step)
    config = RewardConfig(
        output_dir=str(folder / "trl"),
        max_length=settings.max_length,
        per_device_train_batch_size=per_batch,
        gradient_accumulation_steps=pairs_per_step // per_batch,
        train_sampling_strategy=sampling,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        center_rewards_coefficient=settings.center,
        optim="adamw_torch_fused",
        num_train_epochs=1000,
        bf16=settings.bf16,
        use_cpu=not settings.device.startswith("cuda"),
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,  # the sampler reads `length`
        logging_strategy="no",
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=settings.seed,
        model_init_kwargs={"dtype": "float32"},
    )
    rows = [json.loads(line) for line in (folder / "given.jsonl").read_text("utf-8").split("\n")[:-1]]
    data = datasets.Dataset.from_list([conversational(row) for row in rows])
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    trainer = Trainer(
        model=str(folder / "model"),
        args=config,
        train_dataset=data,
        processing_class=tokenizer,
    )
    survivors = trainer.train_dataset
    lengths = {row["id"]: [len(row["chosen_ids"]), len(row["rejected_ids"])] for row in survivors}
    turns.say(lengths=lengths)
    trainer.keep(set(turns.next()["ids"]), pairs_per_step)
    turns.say(order=[trainer.train_dataset[i]["id"] for i in trainer.order], pairs_per_batch=per_batch)
    trainer.add_callback(OneStepATurn(turns, trainer, settings))
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
