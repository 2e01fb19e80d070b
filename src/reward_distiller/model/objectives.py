"""The losses of pairs, each as its equation, and how a method weighs them. Shapes: B pairs.

A pair loss gives one value a pair; who sums and divides is the trainer, so that a loss cannot depend on
how a step was cut up. Every function refuses shapes that would broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def bradley_terry(chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor) -> Tensor:
    """-log σ(r_w - r_l) (equation 1, with the minus sign that the paper's print lacks)."""
    _same_shape(chosen_B, rejected_B, margin_B)
    return -F.logsigmoid(chosen_B - rejected_B)


def margin_regression(chosen_B: Tensor, rejected_B: Tensor, margin_B: Tensor) -> Tensor:
    """((r_w - r_l) - (s_w - s_l))² (equation 2). `margin_B` is the difference of the teacher's scores."""
    _same_shape(chosen_B, rejected_B, margin_B)
    return ((chosen_B - rejected_B) - margin_B).square()


def centering(chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    """(r_w + r_l)²: takes away the offset that losses of differences leave free (Eisenstein et al., 2023)."""
    _same_shape(chosen_B, rejected_B)
    return (chosen_B + rejected_B).square()


@dataclass(frozen=True)
class Objective:
    """Equation 5: pair_weight · pair loss + nll_weight · NLL + kl_weight · KL(teacher || student)."""

    pair_loss: PairLoss
    pair_weight: float = 1.0
    nll_weight: float = 0.0
    kl_weight: float = 0.0

    @property
    def regularized(self) -> bool:
        return self.nll_weight > 0 or self.kl_weight > 0


def _same_shape(*tensors: Tensor) -> None:
    """(B,) minus (B, 1) is (B, B): it would regress every pair to the batch's mean margin without a word."""
    if any(t.ndim != 1 or t.shape != tensors[0].shape for t in tensors):
        raise ValueError(f"one value a pair is needed, got shapes {[tuple(t.shape) for t in tensors]}")
