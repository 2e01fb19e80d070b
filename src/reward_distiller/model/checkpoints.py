"""Checkpoints of a training under way: weights, optimizer state and progress, whole or not at all.

One folder per checkpoint, under its name only when it is complete; the one before goes when the next is there.
Only safetensors and JSON. State is gathered from all processes into the names of the plain network, so that a
training may go on with another number of them. A checkpoint of other inputs (`run_key`) is never resumed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from reward_distiller.console import say
from reward_distiller.errors import TrainingError
from reward_distiller.files import new_folder, write_json
from reward_distiller.model.chat import first_line

STEP, BEST = "step-", "best"
OPTIONS = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
WEIGHTS, OPTIMIZER, PROGRESS = "weights.safetensors", "optimizer.safetensors", "progress.json"


@dataclass(frozen=True)
class Progress:
    """Steps done and the seconds they took, and the evaluated step with the lowest validation loss (0: none).

    `beside` is what else a training remembers, as JSON.
    """

    step: int = 0
    best_step: int = 0
    best_loss: float = 0.0
    seconds: float = 0.0
    beside: dict[str, Any] = field(default_factory=dict)

    def at(self, step: int, seconds: float) -> Progress:
        return replace(self, step=step, seconds=seconds)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training in a folder. All processes call every method; `main` writes."""

    folder: Path
    run_key: str
    main: bool = True

    def save(self, network: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        weights = _weights(network)
        state: dict[str, Any] = get_optimizer_state_dict(network, optimizer, options=OPTIONS)
        if not self.main:
            return
        before = self._steps()
        with new_folder(self.folder / f"{STEP}{progress.step:08d}") as temporary:
            save_file(weights, temporary / WEIGHTS)
            save_file(_flat(state["state"]), temporary / OPTIMIZER)
            facts = {"run_key": self.run_key, **asdict(progress), "param_groups": state["param_groups"]}
            write_json(temporary / PROGRESS, facts)
        for old in before:
            if old.name != f"{STEP}{progress.step:08d}":
                shutil.rmtree(old)

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Put the last checkpoint's state back, if it is of the same inputs; give the progress to go on from."""
        for folder in reversed(self._steps()):
            try:
                facts = json.loads((folder / PROGRESS).read_text("utf-8"))
                if facts["run_key"] != self.run_key:
                    say(f"train: {folder} is of other inputs and is not resumed")
                    continue
                progress = Progress(**{each.name: facts[each.name] for each in fields(Progress)})
                state = {"state": _nested(load_file(folder / OPTIMIZER)), "param_groups": facts["param_groups"]}
                _put_weights(network, load_file(folder / WEIGHTS))
                set_optimizer_state_dict(network, optimizer, state, options=OPTIONS)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                raise TrainingError(
                    f"the checkpoint {folder} cannot be read ({first_line(error)}). Remove it to train from the start"
                ) from error
            say(f"train: going on behind step {progress.step}, from {folder}")
            return progress
        return Progress()

    def save_best(self, network: nn.Module) -> None:
        weights = _weights(network)
        if self.main:
            with new_folder(self.folder / BEST) as temporary:
                save_file(weights, temporary / WEIGHTS)

    def load_best(self, network: nn.Module) -> None:
        _put_weights(network, load_file(self.folder / BEST / WEIGHTS))

    def last_good(self) -> str:
        """For an error message: where the last checkpoint is."""
        steps = self._steps()
        return f"The last good checkpoint is {steps[-1]}" if steps else "There is no checkpoint yet"

    def remove(self) -> None:
        """The trained model is saved; what led there is not needed any more."""
        if self.main:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return sorted(self.folder.glob(f"{STEP}*"))


def _flat(state: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}/{part}": value for name, parts in state.items() for part, value in parts.items()}


def _nested(state: dict[str, Tensor]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in state.items():
        name, _, part = key.rpartition("/")
        nested.setdefault(name, {})[part] = value
    return nested


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Trained weights by name, each once: tied ones are one tensor, and frozen ones are where they came from."""
    trained = dict(network.named_parameters())
    state: dict[str, Any] = get_model_state_dict(network, options=OPTIONS)
    return {name: value.contiguous() for name, value in state.items() if name in trained}


def _put_weights(network: nn.Module, weights: dict[str, Any]) -> None:
    set_model_state_dict(network, weights, options=OPTIONS)
