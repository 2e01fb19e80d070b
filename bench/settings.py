"""What is compared, and on what terms: the same for every side. Standard library only: every environment reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAPER_TRAINER = 0.050  # pairs/s of the trainer that `full_objective/ultrafeedback/mfu` is held against


@dataclass(frozen=True)
class Settings:
    data: str
    device: str = "cpu"
    bf16: bool = False  # autocast on both sides, fp32 weights
    threads: int = 2
    hidden: int = 512
    layers: int = 8
    heads: int = 8
    max_length: int = 1024
    tokens_per_batch: int = 8192  # slots at once; in TRL's terms 4 pairs of max_length
    learning_rate: float = 1e-5
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    center: float = 0.01
    alpha: float = 0.2
    seed: int = 0
    peak_tries: int = 3  # matrix products of each size, before and after every comparison

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Settings:
        return cls(**json.loads(path.read_text()))

    @property
    def trl_pairs_per_batch(self) -> int:
        """So many pairs, each two rows of max_length at most, are within the budget."""
        return max(1, self.tokens_per_batch // (2 * self.max_length))


@dataclass(frozen=True)
class Comparison:
    """Trees against other sides on one profile. A block is one optimizer step (or the scoring of some prompts)."""

    name: str
    profile: str
    work: str  # full_objective, bradley_terry, scoring or evaluation
    against: tuple[str, ...]
    per_block: int  # pairs in an optimizer step; in scoring and evaluation, prompts with their responses
    repeats: int  # measured blocks; a small one comes first and is not counted

    @property
    def trains(self) -> bool:
        return self.work not in ("scoring", "evaluation")

    @property
    def trl_sampling(self) -> str:
        """TRL's own name for how it draws pairs."""
        return "group_by_length" if self.name.endswith("_grouped") else "random"

    def rows(self) -> dict[str, str]:
        """Row name -> the side that trees are held against; "" for the row that holds them against none."""
        if not self.against:
            return {f"{self.name}/mfu": ""}
        return {f"{self.name}/tree_vs_{side}": side for side in self.against}

    def matching(self, pattern: str) -> Comparison | None:
        """The part of it whose row names match, None if none does."""
        kept = [side for row, side in self.rows().items() if fnmatch(row, pattern) or pattern in row]
        return replace(self, against=tuple(s for s in kept if s)) if kept else None


BOTH = ("padded", "padded_distinct")
COMPARISONS = (
    Comparison("full_objective/alpaca_eval", "alpaca_eval", "full_objective", BOTH, 8, 4),
    Comparison("full_objective/rm_bench", "rm_bench", "full_objective", BOTH, 8, 4),
    Comparison("full_objective/paper", "paper", "full_objective", BOTH, 8, 4),
    Comparison("full_objective/prompt_500", "prompt_500", "full_objective", BOTH, 8, 4),
    Comparison("full_objective/ultrafeedback", "ultrafeedback", "full_objective", (), 16, 4),
    # TRL as its users get it, with pairs drawn at random, and TRL at its best, with pairs of like length together.
    Comparison("bradley_terry/hh_rlhf", "hh_rlhf", "bradley_terry", ("trl", "padded"), 16, 6),
    Comparison("bradley_terry/hh_rlhf_grouped", "hh_rlhf", "bradley_terry", ("trl",), 16, 6),
    # Responses behind prompts of 500 tokens, and behind AlpacaEval's own short ones, which leave little to share.
    Comparison("scoring/best_of_16", "best_of_16_prompt_500", "scoring", ("padded",), 4, 5),
    Comparison("scoring/best_of_16_short_prompts", "best_of_16", "scoring", ("padded",), 4, 5),
    # A benchmark as `evaluate` scores it, from texts to rewards; short prompts before 3 + 3 responses.
    Comparison("scoring/rm_bench", "rm_bench", "evaluation", ("one_by_one", "padded"), 6, 5),
)
