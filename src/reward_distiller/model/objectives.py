"""The losses, each as its equation. Shapes: B pairs, T tokens of teacher responses, V vocabulary, D hidden.

A pair loss gives one value a pair; who sums and divides is the trainer, so that a loss cannot depend on
how a step was cut up. Every function refuses shapes that would broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
CHUNK_LOGITS = 2**25  # logits held at once by the regularizer: 128 MiB in fp32


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


def response_losses(
    hidden_TD: Tensor,
    target_T: Tensor,
    weight_T: Tensor,
    logits_of: Callable[[Tensor], Tensor],
    teacher_hidden_TD: Tensor | None = None,
    teacher_logits_of: Callable[[Tensor], Tensor] | None = None,
    chunk_logits: int = CHUNK_LOGITS,
) -> tuple[Tensor, Tensor]:
    """Equation 4: (Σ_t w_t · -log P_φ(y_t), Σ_t w_t · KL(P_T ‖ P_φ)), both full-vocabulary.

    Position t of `hidden_TD` is the one that *predicts* target t. Logits are made for a chunk of tokens at a time and
    made again in the backward pass, so that [T, V] is never held.
    """
    _same_shape(target_T, weight_T)
    if hidden_TD.shape[0] != target_T.shape[0]:
        raise ValueError(f"{hidden_TD.shape[0]} positions for {target_T.shape[0]} targets")

    def losses_of(part: slice, student_D: Tensor, teacher_D: Tensor | None) -> tuple[Tensor, Tensor]:
        log_p_student = F.log_softmax(logits_of(student_D).float(), dim=-1)
        nll = (weight_T[part] * F.nll_loss(log_p_student, target_T[part], reduction="none")).sum()
        if teacher_D is None or teacher_logits_of is None:
            return nll, nll.new_zeros(())
        log_p_teacher = F.log_softmax(teacher_logits_of(teacher_D).float(), dim=-1)
        # Logits of one vocabulary may differ in width by padding rows, or by a padding token of the student's.
        shared = min(log_p_student.shape[-1], log_p_teacher.shape[-1])
        log_p_student, log_p_teacher = log_p_student[:, :shared], log_p_teacher[:, :shared]
        kl_T = (log_p_teacher.exp() * (log_p_teacher - log_p_student)).sum(-1)
        return nll, (weight_T[part] * kl_T).sum()

    size = max(1, chunk_logits // max(1, logits_of(hidden_TD[:1].detach()).shape[-1]))
    nll, kl = hidden_TD.new_zeros(()), hidden_TD.new_zeros(())
    for start in range(0, target_T.shape[0], size):
        part = slice(start, start + size)
        teacher_part = None if teacher_hidden_TD is None else teacher_hidden_TD[part]
        if target_T.shape[0] > size and torch.is_grad_enabled():
            part_nll, part_kl = checkpoint(losses_of, part, hidden_TD[part], teacher_part, use_reentrant=False)
        else:
            part_nll, part_kl = losses_of(part, hidden_TD[part], teacher_part)
        nll, kl = nll + part_nll, kl + part_kl
    return nll, kl


def _same_shape(*tensors: Tensor) -> None:
    """(B,) minus (B, 1) is (B, B): it would regress every pair to the batch's mean margin without a word."""
    if any(t.ndim != 1 or t.shape != tensors[0].shape for t in tensors):
        raise ValueError(f"one value a pair is needed, got shapes {[tuple(t.shape) for t in tensors]}")
