"""What the training of a policy takes of memory, before it begins: an estimate for one process, from configs alone.

Per parameter 16 bytes of a model that trains (weight, gradient, AdamW's two moments) and 4 of one that does not:

    policy        trains; a copy stands still as what looks compare with, and one more where the loss has a KL
    critic        of ppo: a backbone more, that trains
    reward models those in this process

Beside them stands the larger of what sampling and an update hold. Sampling keeps keys and values of all tokens of the
responses under way: of ppo 16,384 slots, of TRL's trainers the whole rollout, which is generated in one call. An
update keeps the activations of `model/memory.py` for `rows_per_batch` rows of the longest kind, of policy and critic
together, and logits: of ppo in full for the responses, of TRL's trainers in tiles. Looks hold logits, too. Measured
against real trainings in tests/rl/test_policy_memory.py.

Not counted: the libraries, a GPU's context, servers that rewards come from. Knows no machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reward_distiller.config import RLConfig
from reward_distiller.model.memory import BF16, FP32, Shape, slot_bytes
from reward_distiller.rl.policy import LOGITS, SLOTS

TRAINED = 4 * FP32  # bytes of a parameter: weight, gradient, two moments
TILE_TOKENS, TILE_WORDS = 4096, 32768  # of TRL's LM head, which works on so many logits at a time
TILES = 7  # that it holds, as measured on a CPU; its kernel for GPUs has fewer
COPIES = 6  # of the logits of a batch of ppo: at the temperature, as log-probabilities, of the entropy, and gradients
LOOKED = 5  # of the logits of a look: both models', and what the KL is made of


@dataclass(frozen=True)
class PolicyMemory:
    """Bytes. Of `sampling` and `update` only the larger one is there at a time."""

    policy: float
    references: float
    critic: float
    reward_models: float
    sampling: float
    update: float

    @property
    def total(self) -> float:
        still = self.policy + self.references + self.critic + self.reward_models
        return still + max(self.sampling, self.update)


def policy_memory(shape: Shape, config: RLConfig, reward_models: Sequence[Shape] = ()) -> PolicyMemory:
    ppo, own = config.algorithm == "ppo", config.optimization
    half = own.precision == "bf16"
    parameters = shape.backbone + shape.lm_head
    copies = BF16 * shape.linear if half else 0
    references = 2 if ppo or _kl(config) else 1
    return PolicyMemory(
        policy=TRAINED * parameters + copies,
        references=FP32 * parameters * references,
        critic=TRAINED * shape.backbone + copies if ppo else 0,
        reward_models=sum(FP32 * (each.backbone + each.hidden) for each in reward_models),
        sampling=0 if config.algorithm == "sft" else _sampling(shape, config),
        update=max(_update(shape, config, half), _look(shape, config)),
    )


def _kl(config: RLConfig) -> bool:
    return (config.algorithm == "grpo" and config.grpo.kl > 0) or (config.algorithm == "dapo" and config.dapo.kl > 0)


def _row(config: RLConfig) -> int:
    """Tokens of the longest prompt and response."""
    return config.rollout.max_prompt_length + config.rollout.max_response_length


def _sampling(shape: Shape, config: RLConfig) -> float:
    """Keys and values of what is generated at once, and the last logits, three times over while they are drawn from."""
    rows, row = config.rollout.prompts_per_step * config.responses_per_prompt, _row(config)
    if config.algorithm == "ppo":
        rows = min(rows, max(1, SLOTS // row))
    return FP32 * rows * (row * shape.layers * 2 * shape.keys + 3 * shape.vocabulary)


def _update(shape: Shape, config: RLConfig, half: bool) -> float:
    own, row, length = config.optimization, _row(config), config.rollout.max_response_length
    slot = slot_bytes(shape, half, own.gradient_checkpointing)
    if config.algorithm == "ppo":
        rows = min(own.rows_per_batch, max(1, min(SLOTS, LOGITS // shape.vocabulary) // row))
        return 2 * rows * row * slot + COPIES * FP32 * rows * length * shape.vocabulary
    slots = own.rows_per_batch * row
    return slots * slot + TILES * FP32 * min(slots, TILE_TOKENS) * min(shape.vocabulary, TILE_WORDS)


def _look(shape: Shape, config: RLConfig) -> float:
    rows, row = config.guards.prompts, _row(config)
    rows = min(rows, max(1, min(SLOTS, LOGITS // shape.vocabulary) // row))
    return LOOKED * FP32 * rows * config.rollout.max_response_length * shape.vocabulary
