"""The network that is trained: a causal LM's backbone with a reward head beside its LM head.

One forward pass gives all that a loss reads: rewards at the slots that are asked for, and the regularization of the
tokens that are supervised. What is exported is the `classifier` in it. Knows no data and no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reward_distiller.model.layout import Layout
from reward_distiller.model.regularizer import FullTeacher, LMHead, TopK, regularize
from reward_distiller.model.tree_attention import hidden_states


@dataclass(frozen=True)
class Supervision:
    """The tokens of teacher responses in a layout, and what each weighs (paper, equation 4).

    The hidden state at slot `predict_T` predicts `target_T`: of a response's token at t, the slot at t - 1.
    """

    predict_T: Tensor
    target_T: Tensor
    weight_T: Tensor
    teacher: FullTeacher | TopK | None
    nll_weight: float
    kl_weight: float


class Output(NamedTuple):
    """The reward head's outputs (N, A), and the regularization: its weighted sum and, for the log, its parts."""

    reward_NA: Tensor
    regularization: Tensor
    nll: Tensor
    kl: Tensor


class RewardNetwork(nn.Module):
    """`classifier` is the plain Hugging Face model; `lm_head` predicts tokens from the same hidden states.

    Weights are fp32; with `matmul_dtype` bf16 the layers compute in bf16, the heads' sums and the losses in fp32.
    """

    def __init__(self, classifier: Any, lm_head: nn.Module | None):
        super().__init__()
        self.classifier: Any = classifier
        self.lm_head = lm_head
        self.softcap: float | None = getattr(classifier.config, "final_logit_softcapping", None)
        present = {type(module).__name__ for module in classifier.modules()}
        # What FSDP shards and gathers one at a time; without the names it would gather the whole network.
        self._no_split_modules = sorted(present & set(getattr(classifier, "_no_split_modules", None) or ()))
        self.matmul_dtype = torch.float32
        self.adds_lm_gradient_in_place = False  # saves a V x D buffer, where nobody waits for a hook on the weight

    def forward(self, layout: Layout, supervision: Supervision | None = None, slot_N: Tensor | None = None) -> Output:
        """Rewards at `slot_N`, or where the layout's sequences end."""
        device = layout.ids_RL.device
        slot_N = layout.ends() if slot_N is None else slot_N
        with torch.autocast(device.type, torch.bfloat16, enabled=self.matmul_dtype == torch.bfloat16):
            hidden_SD = hidden_states(self.classifier.base_model, layout)
        reward_NA = self.rewards(hidden_SD[slot_N.to(device)])
        zero = reward_NA.new_zeros(())
        if supervision is None:
            return Output(reward_NA, zero, zero, zero)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.matmul_dtype == torch.bfloat16):
            result = regularize(
                hidden_SD[supervision.predict_T],
                supervision.target_T,
                supervision.weight_T,
                LMHead.of(self.lm_head, self.softcap),
                supervision.teacher,
                nll_weight=supervision.nll_weight,
                kl_weight=supervision.kl_weight,
                weight_grad=self._lm_gradient(),
            )
        return Output(reward_NA, result.loss, result.nll, result.kl)

    def rewards(self, hidden_ND: Tensor) -> Tensor:
        """The reward head's outputs (N, A) for last hidden states, always in fp32 or better."""
        weight = self.classifier.score.weight
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return hidden_ND.to(weight.dtype) @ weight.T

    def _lm_gradient(self) -> Tensor | None:
        weight: Any = self.lm_head.weight if self.lm_head is not None else None
        if not (self.adds_lm_gradient_in_place and torch.is_grad_enabled() and weight.requires_grad):
            return None
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        return weight.grad


def fold_attributes(network: RewardNetwork, weights: Sequence[float]) -> None:
    """Make the head's outputs one: their weighted sum is linear again, so a plain classifier gives it exactly."""
    old: nn.Linear = network.classifier.score
    folded = nn.Linear(old.in_features, 1, bias=False, dtype=old.weight.dtype, device=old.weight.device)
    with torch.no_grad():
        folded.weight.copy_(old.weight.new_tensor([list(weights)]) @ old.weight)
    network.classifier.score = folded


def disable_dropout(network: nn.Module, config: Any) -> None:
    """Dropout would make a reward differ from call to call during training, and the export from what was trained."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)


def is_tied(network: RewardNetwork) -> bool:
    embeddings = network.classifier.base_model.get_input_embeddings()
    return network.lm_head is not None and network.lm_head.weight is embeddings.weight
