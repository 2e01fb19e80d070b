"""What SFT, GRPO and DAPO share of TRL: its settings from our config, its log in our rows, its checkpoints made safe.

TRL writes a checkpoint in place, so one that a killed process left half-written looks like any other. Ours gets a mark
when it is whole; without the mark, or with the mark of other inputs, it is removed and not resumed. Knows no rewards.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import transformers

from reward_distiller.config import RLConfig
from reward_distiller.console import say
from reward_distiller.errors import MissingExtra, TrainingError
from reward_distiller.files import write_json
from reward_distiller.model.loading import device_of
from reward_distiller.model.training_log import TrainingLog

MARK = "whole.json"
NOT_FIGURES = re.compile(r"time|runtime|per_second|flos|epoch|learning_rate|num_tokens|train_loss|^step$")
OUR_NAMES = {"clip_ratio/region_mean": "clipped", "frac_reward_zero_std": "groups_without_spread"}
State = Callable[[], dict[str, Any]]


def import_trl() -> Any:
    try:
        import trl
    except ImportError as error:
        raise MissingExtra("trl", "rl") from error
    return trl


def common_settings(config: RLConfig, folder: Path) -> dict[str, Any]:
    """Arguments that TRL's configs have in common. All of ours that it would do otherwise by default are here."""
    own = config.optimization
    device = device_of(own.device)
    return {
        "output_dir": str(folder),
        "learning_rate": own.learning_rate,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": own.warmup_steps,
        "weight_decay": own.weight_decay,
        "max_grad_norm": own.max_grad_norm,
        "bf16": own.precision == "bf16",
        "activation_checkpointing": own.gradient_checkpointing,
        "use_cpu": device.type == "cpu",
        "seed": config.seed,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "steps",
        "save_strategy": "steps",
        "save_total_limit": 1,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
    }


class Steps(transformers.TrainerCallback):  # type: ignore[misc]
    """Hears of TRL's updates, and makes steps of them: rows in the log, looks, marked checkpoints.

    `updates` of the optimizer are a step. `figures` holds what is to be added to the step's row.
    """

    def __init__(
        self,
        log: TrainingLog,
        key: str,
        updates: int,
        look: Callable[[int], Mapping[str, float]] = lambda step: {},
        state: State = dict,
    ):
        self.log, self.key, self.updates, self.look, self.state = log, key, updates, look, state
        self.figures: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if not logs or "grad_norm" not in logs or state.global_step % self.updates:
            return
        step = state.global_step // self.updates
        found = {OUR_NAMES.get(name, name): value for name, value in logs.items() if not NOT_FIGURES.search(name)}
        row = {name: float(v) for name, v in found.items() if isinstance(v, int | float) and _ours(name)}
        row |= _means(self.figures)
        self.figures.clear()
        if row["grad_norm"] != row["grad_norm"] or abs(row["grad_norm"]) == float("inf"):
            raise TrainingError(f"step {step}: the gradient is not finite. Lower optimization.learning_rate")
        self.log.write({"step": step, **row, **self.look(step)})

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        step = state.global_step // self.updates
        write_json(folder / MARK, {"key": self.key, "step": step, "state": self.state()})


def _ours(name: str) -> bool:
    """TRL's own figures of rewards and completions are ours under other names."""
    return "/" not in name and not name.startswith("reward")


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    names = rows[0] if rows else {}
    return {name: sum(row[name] for row in rows) / len(rows) for name in names}


def last_whole(folder: Path, key: str, log: TrainingLog) -> tuple[str | None, dict[str, Any]]:
    """The checkpoint to go on from and the state beside it, the log cut to it. What is not whole is removed."""
    found: dict[int, tuple[Path, dict[str, Any]]] = {}
    for place in folder.glob("checkpoint-*"):
        try:
            mark = json.loads((place / MARK).read_text("utf-8"))
            if mark["key"] != key:
                raise KeyError("other inputs")
            found[int(mark["step"])] = place, dict(mark["state"])
        except (OSError, ValueError, KeyError, TypeError):
            say(f"rl: {place} is not whole, or of other inputs, and is not resumed")
            shutil.rmtree(place, ignore_errors=True)
    step = max(found, default=0)
    log.keep(step)
    if not step:
        return None, {}
    place, state = found[step]
    say(f"rl: going on behind step {step}, from {place}")
    return str(place), state


def quiet() -> None:
    """transformers' own messages are not for who reads ours."""
    import datasets

    datasets.disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def without_printer(trainer: Any) -> None:
    """What it would print is in our log."""
    trainer.remove_callback(transformers.PrinterCallback)
