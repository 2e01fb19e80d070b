"""The losses of pairs, each as its equation, and how a method weighs them. Shapes: B pairs, A attributes.

A pair loss reads the rewards r_w, r_l and the teacher's scores s_w, s_l, and gives one value a pair; who sums and
divides is the trainer, so that a loss cannot depend on how a step was cut up. Every function refuses shapes that
would broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PairLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def bradley_terry(r_w: Tensor, r_l: Tensor, s_w: Tensor, s_l: Tensor) -> Tensor:
    """-log σ(r_w - r_l), all (B,) (equation 1, with the minus sign that the paper's print lacks)."""
    _same_shape(1, r_w, r_l, s_w, s_l)
    return -F.logsigmoid(r_w - r_l)


def margin_bradley_terry(r_w: Tensor, r_l: Tensor, s_w: Tensor, s_l: Tensor) -> Tensor:
    """-log σ(r_w - r_l - γ) with γ = s_w - s_l, all (B,) (equation 6; Touvron et al., 2023)."""
    _same_shape(1, r_w, r_l, s_w, s_l)
    return -F.logsigmoid(r_w - r_l - (s_w - s_l))


def lsam(r_w: Tensor, r_l: Tensor, s_w: Tensor, s_l: Tensor) -> Tensor:
    """-ε log p - (1 - ε) log(1 - p) with p = σ(r_w - r_l) and ε = σ(s_w - s_l), all (B,).

    Equation 8 as the cross-entropy that it means: its print has a plus before the second term (Wang et al., 2024).
    """
    _same_shape(1, r_w, r_l, s_w, s_l)
    epsilon = torch.sigmoid(s_w - s_l)
    return -epsilon * F.logsigmoid(r_w - r_l) - (1 - epsilon) * F.logsigmoid(r_l - r_w)


def margin_regression(r_w: Tensor, r_l: Tensor, s_w: Tensor, s_l: Tensor) -> Tensor:
    """((r_w - r_l) - (s_w - s_l))², all (B,) (equation 2)."""
    _same_shape(1, r_w, r_l, s_w, s_l)
    return ((r_w - r_l) - (s_w - s_l)).square()


def attribute_regression(r_w: Tensor, r_l: Tensor, s_w: Tensor, s_l: Tensor) -> Tensor:
    """Σ_i (r_i - s_i)² over attributes, all (B, A), the mean of a pair's two responses (equation 7; SteerLM)."""
    _same_shape(2, r_w, r_l, s_w, s_l)
    return ((r_w - s_w).square() + (r_l - s_l).square()).sum(1) / 2


def cross_entropy(r_w: Tensor, r_l: Tensor, s_w: Tensor, s_l: Tensor) -> Tensor:
    """-p log σ(r) - (1 - p) log(1 - σ(r)) with p = (s - 1) / 9, all (B, 1), the mean of a pair's two responses.

    Cobbe et al. (2021) train verifiers so, with p of 0 or 1.
    """
    _same_shape(2, r_w, r_l, s_w, s_l)
    both = (F.binary_cross_entropy_with_logits(r, (s - 1) / 9, reduction="none") for r, s in ((r_w, s_w), (r_l, s_l)))
    return sum(both, torch.zeros_like(r_w)).sum(1) / 2


def centering(r_w: Tensor, r_l: Tensor) -> Tensor:
    """(r_w + r_l)²: takes away the offset that losses of differences leave free (Eisenstein et al., 2023)."""
    _same_shape(1, r_w, r_l)
    return (r_w + r_l).square()


@dataclass(frozen=True)
class Objective:
    """Equation 5: pair_weight · pair loss + nll_weight · NLL + kl_weight · KL(teacher || student).

    The reward is the head's outputs weighted by `attributes`. With `absolute` the loss compares each output with its
    own score, (B, A); there is no free offset then, and nothing to centre. `aligned_weight` is the part of a pair's
    loss that belongs to the places where its responses are aligned, if it has any (`comparisons.py`).
    """

    pair_loss: PairLoss
    pair_weight: float = 1.0
    nll_weight: float = 0.0
    kl_weight: float = 0.0
    attributes: tuple[float, ...] = (1.0,)
    absolute: bool = False
    aligned_weight: float = 0.0

    @property
    def regularized(self) -> bool:
        return self.nll_weight > 0 or self.kl_weight > 0


def _same_shape(ndim: int, *tensors: Tensor) -> None:
    """(B,) minus (B, 1) is (B, B): it would regress every pair to the batch's mean margin without a word."""
    if any(t.ndim != ndim or t.shape != tensors[0].shape for t in tensors):
        unit = "one value a pair" if ndim == 1 else "one row a pair, one column an attribute"
        raise ValueError(f"{unit} is needed, got shapes {[tuple(t.shape) for t in tensors]}")
