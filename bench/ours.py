"""Our side's parts: the one file of the bench that touches the engine's own names.

Both layouts of ours come from the same engine: trees with the pairs of a prompt together, padded rows with every pair
for itself (as trainers do that know only pairs), and padded rows that hold each distinct sequence of a prompt once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from bench.counting import Shape
from bench.settings import Settings
from reward_distiller.config import Scratch, Training
from reward_distiller.evaluate.answers import Rewards
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.model.batches import EncodedPair, Reading, encode_pairs, plan_steps
from reward_distiller.model.chat import ChatFormat, Encoded, load_chat
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.layout import cut_rows
from reward_distiller.model.loading import build_network, scratch_lm
from reward_distiller.model.network import RewardNetwork
from reward_distiller.model.objectives import Objective, bradley_terry, margin_regression
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import Trainer, exact
from reward_distiller.recipes.scorers import ModelScorer
from reward_distiller.records import Pair, Prompt

SCORING_LENGTH = 4096  # what the scratch student reads at most
# A block's rows pad by 11 % in batches of so many slots; those of `evaluate`, on 128 examples of like length, by 8 %.
# In its batches of 16,384 a block would pad by 61 %, which nobody who scores RM-Bench pays.
PADDED_SLOTS = 2048
SIDES: dict[str, tuple[Literal["trees", "padded"], Literal["prompts", "pairs"]]] = {
    "tree": ("trees", "prompts"),
    "padded": ("padded", "pairs"),
    "padded_distinct": ("padded", "prompts"),
}


def chat_format(settings: Settings) -> ChatFormat:
    folder = Path(settings.data) / "qwen_tokenizer"
    return load_chat(str(folder), template=str(folder / "chat_template.qwen2_5.json"))


def prompt_tokens(chat: ChatFormat) -> Callable[[Prompt], int]:
    """Counts the tokens of a rendered prompt, up to where the response begins."""

    def count(prompt: Prompt) -> int:
        text = chat.tokenizer.apply_chat_template(prompt.as_dicts(), tokenize=False, add_generation_prompt=True)
        return len(chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    return count


def make_network(settings: Settings, chat: ChatFormat) -> RewardNetwork:
    """The same weights in every process: they are drawn by the seed."""
    chat.pad_token_id()
    scratch = Scratch(tokenizer=chat.where, hidden=settings.hidden, layers=settings.layers, heads=settings.heads)
    return build_network(scratch_lm(scratch, len(chat.tokenizer), settings.seed), chat, settings.seed)


def export(network: RewardNetwork, chat: ChatFormat, folder: Path) -> None:
    save_reward_model(network, chat, folder, {})


def shape_of(network: RewardNetwork) -> Shape:
    body = network.classifier.base_model
    embeddings = body.get_input_embeddings().weight.numel()
    config = body.config
    return Shape(
        sum(p.numel() for p in body.parameters()) - embeddings,
        config.num_hidden_layers,
        config.hidden_size,
        body.get_input_embeddings().num_embeddings,
    )


def encode(pairs: Sequence[Pair], chat: ChatFormat, settings: Settings, work: str) -> tuple[list[EncodedPair], Any]:
    full = work == "full_objective"
    return encode_pairs(
        pairs, chat, settings.max_length, Reading(("overall",), "teacher_response") if full else Reading()
    )


class TrainingSide:
    """Optimizer steps of one side; the optimizer is the one that TRL uses by default."""

    def __init__(self, settings: Settings, network: RewardNetwork, side: str, work: str):
        layout, self.shuffle = SIDES[side]
        if work == "full_objective":
            objective = Objective(margin_regression, pair_weight=1 - settings.alpha, nll_weight=settings.alpha)
        else:
            objective = Objective(bradley_terry)
        training = Training(
            layout=layout,
            shuffle=self.shuffle,
            precision="bf16" if settings.bf16 else "fp32",
            threads=settings.threads,
            tokens_per_batch=settings.tokens_per_batch,
            max_length=settings.max_length,
            center=settings.center,
            device=settings.device,
        )
        self.settings = settings
        self.trainer = Trainer(network, objective, training)
        if self.trainer.layout != layout:
            raise ValueError(f"the engine fell back to {self.trainer.layout}: there is nothing to compare")
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        network.train()

    def plan(self, pairs: Sequence[EncodedPair]) -> Any:
        """One optimizer step of these pairs."""
        (step,) = plan_steps(pairs, len(pairs), 1, self.settings.seed, self.shuffle)
        return step

    def step(self, step: Any) -> dict[str, Any]:
        """What the trainer does in a step; gives the loss."""
        with exact(self.settings.threads):
            self.optimizer.zero_grad(set_to_none=True)
            figures = self.trainer.accumulate(step)
            torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
            self.optimizer.step()
        return {"loss": float(figures["loss"])}


class ScoringSide:
    """Rewards of many responses to each prompt, one prompt a call, as best-of-N asks for them."""

    def __init__(self, settings: Settings, network: RewardNetwork, chat: ChatFormat, side: str):
        self.settings = settings
        self.model = RewardModel(network.classifier.to(settings.device), chat, layout=SIDES[side][0])
        if self.model.layout != SIDES[side][0]:
            raise ValueError(f"the engine fell back to {self.model.layout}: there is nothing to compare")

    def plan(self, rows: Sequence[Sequence[Encoded]]) -> Sequence[Sequence[Encoded]]:
        return rows

    def step(self, rows: Sequence[Sequence[Encoded]]) -> dict[str, Any]:
        with autocast(self.settings):
            return said([value for row in rows for value in self.model.score_encoded(row)])


class EvaluationSide:
    """Rewards of a benchmark's examples, from texts: by `evaluate`'s scorer, one forward a response, or in rows."""

    def __init__(self, settings: Settings, network: RewardNetwork, chat: ChatFormat, side: str):
        self.settings, self.side = settings, side
        layout = "trees" if side == "tree" else "padded"
        self.model = RewardModel(network.classifier.to(settings.device), chat, layout=layout)
        self.scorer = ModelScorer(self.model, "scratch")
        if self.model.layout != layout:
            raise ValueError(f"the engine fell back to {self.model.layout}: there is nothing to compare")

    def plan(self, examples: Sequence[Example]) -> Sequence[Example]:
        """The longest last, as `recipes/answering.py` hands them to a scorer."""
        return sorted(examples, key=lambda e: sum(map(len, e.responses)))

    def step(self, examples: Sequence[Example]) -> dict[str, Any]:
        with autocast(self.settings):
            if self.side == "tree":
                answers = self.scorer.answer(examples, lambda: None)
                return said([value for answer in answers if isinstance(answer, Rewards) for value in answer.values])
            if self.side == "one_by_one":
                return said([self.model.score(e.prompt.as_dicts(), [r])[0] for e in examples for r in e.responses])
            return said(self._padded([s for e in examples for s in encode_row(e.prompt, e.responses, self.model.chat)]))

    def _padded(self, sequences: Sequence[Encoded]) -> list[float]:
        rewards = [0.0] * len(sequences)
        for batch in cut_rows([s.ids for s in sequences], PADDED_SLOTS):
            for at, reward in zip(batch, self.model.score_encoded([sequences[at] for at in batch]), strict=True):
                rewards[at] = reward
        return rewards


def autocast(settings: Settings) -> torch.autocast:
    return torch.autocast(settings.device.split(":")[0], torch.bfloat16, enabled=settings.bf16)


def said(rewards: list[float]) -> dict[str, Any]:
    """The rewards, and in place of a loss their mean: both must be the same on every side."""
    return {"loss": sum(rewards) / len(rewards), "rewards": rewards}


def example(row: dict[str, Any]) -> Example:
    return Example(row["id"], Prompt.model_validate(row["prompt"]), tuple(row["responses"]))


def encode_row(prompt: Prompt, responses: Sequence[str], chat: ChatFormat) -> list[Encoded]:
    return [chat.encode(prompt.as_dicts(), response) for response in responses]
