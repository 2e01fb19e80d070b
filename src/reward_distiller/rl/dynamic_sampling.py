"""Dynamic sampling (DAPO, Yu et al., 2025, section 3.2), which TRL lacks.

A group whose responses all get about the same reward has no advantages, so it is put aside and other prompts are
sampled in its place, until the batch is full or the rounds are over. What is still missing then is filled with the
groups that were put aside, those of most spread first: they weigh what they would have weighed without. Which prompts
stand in follows from seed, step and round, so a resumed training draws the same. One process.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import pstdev
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reward_distiller.config import DynamicSampling, RLConfig
from reward_distiller.errors import ConfigError
from reward_distiller.rl.on_trl import import_trl

if TYPE_CHECKING:
    from reward_distiller.rl.grpo import Scoring

LEFT_PADDED = ("prompt_ids", "prompt_mask")


def trainer_class(config: RLConfig) -> type[Any]:
    """TRL's trainer, or the one that samples again."""
    trl = import_trl()
    if config.algorithm != "dapo" or config.dapo.dynamic_sampling is None:
        return trl.GRPOTrainer

    class DynamicSamplingTrainer(trl.GRPOTrainer):  # type: ignore[misc, name-defined]
        def resample(
            self, settings: DynamicSampling, scoring: Scoring, seed: int, figures: list[dict[str, float]]
        ) -> None:
            """What to look at; `figures` gets a row for each batch."""
            self._dynamic = settings, scoring, seed, figures

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            settings, scoring, seed, figures = self._dynamic
            size = self.num_generations
            wanted = len(inputs) // size
            groups: list[tuple[float, dict[str, Tensor]]] = []
            seen = {row["number"] for row in inputs}
            rounds = 0
            while True:
                rounds += 1
                output = super()._generate_and_score_completions(inputs)
                rewards = scoring.scored.of(settings.on)
                spreads = [pstdev(rewards[at : at + size]) for at in range(0, len(rewards), size)]
                groups += zip(spreads, cut_groups(output, size), strict=True)
                enough = sum(spread > settings.min_spread for spread, _ in groups) >= wanted
                if enough or rounds == settings.max_rounds:
                    break
                inputs = self._others(seen, wanted, random.Random(f"again:{seed}:{self.state.global_step}:{rounds}"))
            kept = first_with_spread([spread for spread, _ in groups], wanted, settings.min_spread)
            with_spread = sum(groups[at][0] > settings.min_spread for at in kept)
            for row in figures[-rounds:]:  # of the rollouts of this batch
                row |= {"rounds": float(rounds), "groups_with_spread": with_spread / wanted}
            return joined([groups[at][1] for at in kept], self._tokenizer.pad_token_id)

        def _others(self, seen: set[int], count: int, rng: random.Random) -> list[dict[str, Any]]:
            """Rows of prompts that this batch has not had, or of any where none is left; each as often as sampled."""
            numbers = range(len(self.train_dataset))
            fresh = [number for number in numbers if number not in seen]
            chosen = rng.sample(fresh, min(count, len(fresh)))
            chosen += rng.choices(numbers, k=count - len(chosen))
            seen.update(chosen)
            return [self.train_dataset[number] for number in chosen for _ in range(self.num_generations)]

    return DynamicSamplingTrainer


def first_with_spread(spreads: Sequence[float], wanted: int, least: float) -> list[int]:
    """The places of the first `wanted` groups with more spread than `least`, filled up by those with the most of it."""
    good = [at for at, spread in enumerate(spreads) if spread > least][:wanted]
    rest = sorted((at for at, spread in enumerate(spreads) if spread <= least), key=lambda at: -spreads[at])
    return good + rest[: wanted - len(good)]


def cut_groups(output: dict[str, Any], size: int) -> list[dict[str, Tensor]]:
    """TRL's batch as one part a prompt. Raises ConfigError for what a text policy has not."""
    rows = {name: value for name, value in output.items() if name != "num_items_in_batch"}
    count = len(rows["advantages"])
    for name, value in rows.items():
        if not (torch.is_tensor(value) and value.shape[:1] == (count,)):
            raise ConfigError(f"dynamic sampling cannot cut {name!r} by prompts. Set dapo.dynamic_sampling=null")
    return [{name: v[at : at + size] for name, v in rows.items()} for at in range(0, count, size)]


def joined(groups: Sequence[dict[str, Tensor]], pad: int) -> dict[str, Any]:
    """Parts of several batches as one: prompts padded on the left, responses on the right."""
    output: dict[str, Any] = {}
    for name in groups[0]:
        parts = [group[name] for group in groups]
        if parts[0].dim() > 1:
            width = max(part.shape[1] for part in parts)
            fill = pad if name in ("prompt_ids", "completion_ids") else 0
            parts = [_widened(part, width, fill, left=name in LEFT_PADDED) for part in parts]
        output[name] = torch.cat(parts)
    output["num_items_in_batch"] = output["completion_mask"].sum()
    return output


def _widened(part: Tensor, width: int, fill: int, *, left: bool) -> Tensor:
    room = part.new_full((len(part), width - part.shape[1]), fill)
    return torch.cat([room, part] if left else [part, room], 1)
