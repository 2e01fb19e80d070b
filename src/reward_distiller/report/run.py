"""A run folder as it lies there, read when a section asks for it. Knows what recipes write, and not how they make it.

What is missing is empty: a section that finds nothing is left out. What is there and cannot be read is an error that
names the file, and the row where it has one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from reward_distiller.errors import ConfigError, DataError
from reward_distiller.files import Row, read_rows
from reward_distiller.recipes.environment import FILE as ENVIRONMENT
from reward_distiller.yaml_text import parse_yaml

Kind = Literal["reward_model", "rl", "pseudo_rewards", "data_and_rewards", "compare", "evaluate"]
KINDS: dict[str, str] = {
    "reward_model": "Reward model",
    "rl": "Policy",
    "pseudo_rewards": "Pseudo-rewards",
    "data_and_rewards": "Data and rewards",
    "compare": "Comparison",
    "evaluate": "Evaluation",
}
REWARDS = "pair_rewards.jsonl"
MEND = "Put back what the run wrote, or make the run again"
T = TypeVar("T")


@dataclass(frozen=True)
class PairRow:
    """What charts read of a row of pairs.jsonl."""

    id: str
    prompt_id: str
    chosen: str
    rejected: str
    scores: tuple[float, float] | None
    source: str
    provenance: dict[str, Any]

    @property
    def margin(self) -> float | None:
        return self.scores[0] - self.scores[1] if self.scores else None


@dataclass(frozen=True)
class RewardRow:
    """`split` says what the pair was used for: training, validation or held_out."""

    id: str
    chosen: float
    rejected: float
    split: str


class Run:
    """Raises ConfigError for a folder that no recipe has made, or whose run has not ended."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not folder.is_dir():
            raise ConfigError(f"{folder}: there is no such folder. Name the output of a run")
        self.config: dict[str, Any] = self._yaml("config.yaml")
        self.best_of_n: dict[str, Any] = self.json("best_of_n.json", {})
        self.results: dict[str, Any] = self.json("results.json", {})
        self.kind: Kind = self._kind()

    def _kind(self) -> Kind:
        recipe = self.config.get("recipe") or self.results.get("recipe")
        if recipe is None and "scorer" in self.results:
            recipe = "evaluate"
        if recipe not in KINDS:
            raise ConfigError(
                f"{self.folder}: not a folder of run, train, compare, evaluate or rl. Name the output of one of them"
            )
        if not self.results and not self.best_of_n:
            raise ConfigError(f"{self.folder}: its run has not ended, there is no results.json. Run it again first")
        return recipe

    @property
    def title(self) -> str:
        """What was run, without places: the same data make the same title."""
        what = {
            "reward_model": self.config.get("method"),
            "rl": self.config.get("algorithm"),
            "compare": ", ".join(self.results.get("arms", {})),
            "evaluate": ", ".join([*self.results.get("benchmarks", {}), *self.results.get("calibration", {})]),
        }.get(self.kind)
        return KINDS[self.kind] + (f": {what}" if what else "")

    @cached_property
    def environment(self) -> dict[str, Any]:
        return self.json(ENVIRONMENT, {})

    @cached_property
    def balances(self) -> list[dict[str, Any]]:
        return self.json("balance.json", [])

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What `evaluate` wrote: here, or for the benchmarks of a reward model's own config."""
        return self.results if self.kind == "evaluate" else self.json("evaluation/results.json", {})

    @cached_property
    def pairs(self) -> list[PairRow]:
        return self._rows("pairs.jsonl", _pair)

    @cached_property
    def rewards(self) -> dict[str, RewardRow]:
        """What the trained model gives the responses of a pair, by the pair's id."""
        return {row.id: row for row in self._rows(REWARDS, _reward) if row is not None}

    @cached_property
    def training(self) -> dict[str, list[dict[str, float]]]:
        """The log of each stage of a reward model's training, in the order of their names; the last one is `train`."""
        found = {}
        for file in sorted(self.folder.glob("training*.jsonl"), key=lambda f: (f.stem == "training", f.stem)):
            name = file.stem.removeprefix("training").removeprefix("-") or "train"
            found[name] = self._rows(file.name, _figures)
        return found

    @cached_property
    def policy_log(self) -> list[dict[str, float]]:
        return self._rows("rl.jsonl", _figures)

    @cached_property
    def responses(self) -> list[Row]:
        """Of a run of pseudo-rewards."""
        return self._rows("responses.jsonl", lambda row: {"reward": float(row["reward"]), "sampler": row["sampler"]})

    # -- files ----------------------------------------------------------------------------------------

    def json(self, name: str, missing: T) -> T:
        """What the file holds, of the type that stands for a missing one. Raises DataError."""
        path = self.folder / name
        if not path.is_file():
            return missing
        try:
            value = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(path, f"not valid JSON ({error})", mend=MEND) from error
        if not isinstance(value, type(missing)):
            raise DataError(path, f"not what a run writes there, but a {type(value).__name__}", mend=MEND)
        return value

    def _yaml(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            value = parse_yaml(path.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(path, f"not valid YAML ({error})", mend=MEND) from error
        if not isinstance(value, dict):
            raise DataError(path, "not the config of a run", mend=MEND)
        return value

    def _rows(self, name: str, read: Callable[[Row], T]) -> list[T]:
        path = self.folder / name
        found: list[T] = []
        for number, row in read_rows(path) if path.is_file() else ():
            try:
                found.append(read(row))
            except KeyError as error:
                raise DataError(path, "missing", row=number, field=str(error.args[0]), mend=MEND) from error
            except (TypeError, ValueError, AttributeError, IndexError) as error:
                raise DataError(path, f"not what a run writes there ({error})", row=number, mend=MEND) from error
        return found


def _pair(row: Row) -> PairRow:
    scores = row["chosen_score"], row["rejected_score"]
    return PairRow(
        str(row["id"]),
        str(row["prompt_id"]),
        str(row["chosen"][0]["content"]),
        str(row["rejected"][0]["content"]),
        None if None in scores else (float(scores[0]), float(scores[1])),
        str(row["source"]),
        dict(row["provenance"]),
    )


def _reward(row: Row) -> RewardRow | None:
    """None for a pair that the model could not read."""
    if row["chosen"] is None or row["rejected"] is None:
        return None
    return RewardRow(str(row["id"]), float(row["chosen"]), float(row["rejected"]), str(row["split"]))


def _figures(row: Row) -> dict[str, float]:
    return {"step": float(row["step"])} | {name: float(value) for name, value in row.items() if name != "step"}
