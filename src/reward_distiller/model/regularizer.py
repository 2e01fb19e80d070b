"""Generative regularization (paper, equation 4) without the logits of all tokens: a fused linear cross entropy and KL.

    Σ_t w_t · -log P_φ(y_t)    and    Σ_t w_t · KL(P_T(·|t) ‖ P_φ(·|t))

The LM head is applied to a chunk of tokens at a time. Within the chunk the logits become losses and then, in
place, the gradient with respect to the logits, which goes straight into those of hidden states and weight. So
[T, V] is never held, nothing is computed twice (6·T·V·D operations in all), and the backward pass only scales.
Shapes: T tokens, V vocabulary, D hidden, K top-k, C tokens of a chunk, R rows of a block. Knows no models, no
trainer, and not where a teacher's probabilities come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reward_distiller.errors import ModelError

CHUNK_LOGITS = 2**24  # logits of a chunk: 64 MiB in fp32; with fewer, reading the weight again begins to show
BLOCK_LOGITS = {"cpu": 2**20}  # logits worked on at once within it: 4 MiB, which stay in the cache
EXCESS = 1e-3  # of a top-k distribution's mass over 1 that is rounding


@dataclass(frozen=True)
class LMHead:
    """logits = hidden @ weight^T + bias, then cap · tanh(logits / cap) where there is a cap (Gemma 2)."""

    weight_VD: Tensor
    bias_V: Tensor | None = None
    softcap: float | None = None

    @classmethod
    def of(cls, module: Any, softcap: float | None = None) -> LMHead:
        """Raises ModelError for a head that is not a plain linear layer: its weight alone would not be its logits."""
        weight: Any = getattr(module, "weight", None)
        plain = type(module) is nn.Linear and type(weight) in (Tensor, nn.Parameter)
        if not plain or not weight.is_floating_point() or weight.is_meta:
            raise ModelError(
                f"the LM head is {type(module).__name__}, and a plain nn.Linear is needed. Merge its adapter "
                "(peft: merge_and_unload()), load it without quantization and on one device"
            )
        return cls(weight, module.bias, softcap)

    def log_p(self, hidden_CD: Tensor) -> Tensor:
        """Log-probabilities (C, V) in fp32 or above, without gradients' sake: for a chunk that may be held."""
        logits_CV = torch.nn.functional.linear(hidden_CD, self.weight_VD, self.bias_V)
        return _capped(logits_CV.to(_exact(hidden_CD)), self.softcap).log_softmax(-1)


@dataclass(frozen=True)
class FullTeacher:
    """A teacher at hand: the hidden states that predict the same targets, and the head that reads them."""

    hidden_TD: Tensor
    head: LMHead


@dataclass(frozen=True)
class TopK:
    """A teacher's k most probable tokens at each position. Rows with fewer are padded with log_p = -inf at the end."""

    ids_TK: Tensor
    log_p_TK: Tensor


@dataclass(frozen=True)
class Regularization:
    """`loss` = nll_weight · nll + kl_weight · kl has gradients; `nll` and `kl`, weighted sums in nats, have none."""

    loss: Tensor
    nll: Tensor
    kl: Tensor


def regularize(
    hidden_TD: Tensor,
    target_T: Tensor,
    weight_T: Tensor,
    head: LMHead,
    teacher: FullTeacher | TopK | None = None,
    *,
    nll_weight: float = 1.0,
    kl_weight: float = 0.0,
    tail: bool = True,
    chunk_logits: int = CHUNK_LOGITS,
    weight_grad: Tensor | None = None,
) -> Regularization:
    """Equation 4 over T tokens. Position t of `hidden_TD` is the one that *predicts* target t, the teacher's likewise.

    A full teacher's vocabulary may differ in width by padding rows: each distribution is normalised over its own
    width, and the KL is summed over the shared part. Of a top-k teacher, `tail` compares all tokens outside the k as
    one event (mass 1 - Σp); without it, the k are renormalised. Matmuls run in the dtype of `hidden_TD`, or in
    autocast's; softmax and losses in fp32, or fp64 where `hidden_TD` is.

    `weight_grad` (V, D): the weight's gradient is added to it now, not in the backward pass, which then gives the
    weight none and must be called with gradient 1. So micro-batches accumulate without a second buffer of that size.

    Raises ValueError for shapes that would broadcast, targets that are no token, and top-k rows that are no
    distribution.
    """
    exact = _exact(hidden_TD)
    vocabulary = head.weight_VD.shape[0]
    _check(hidden_TD, target_T, weight_T, head, teacher, weight_grad)
    if teacher is None and kl_weight != 0:
        raise ValueError("the KL term needs a teacher")
    if isinstance(teacher, TopK):
        teacher = checked(teacher, vocabulary, exact)
    added = torch.is_grad_enabled() and head.weight_VD.requires_grad
    work = _Work(
        target_T=target_T,
        weight_T=weight_T.detach().to(exact),
        teacher=teacher,
        softcap=head.softcap,
        nll_weight=nll_weight,
        kl_weight=kl_weight,
        tail=tail,
        chunk_logits=chunk_logits,
        weight_grad=weight_grad if added else None,
        exact=exact,
        grad_enabled=torch.is_grad_enabled(),
    )
    apply: Any = _Regularize.apply
    loss, nll, kl = apply(hidden_TD, head.weight_VD, head.bias_V, work)
    return Regularization(loss, nll, kl)


@dataclass(frozen=True)
class _Work:
    """What `_Regularize` needs besides the tensors that may get gradients."""

    target_T: Tensor
    weight_T: Tensor
    teacher: FullTeacher | TopK | None
    softcap: float | None
    nll_weight: float
    kl_weight: float
    tail: bool
    chunk_logits: int
    weight_grad: Tensor | None
    exact: torch.dtype
    grad_enabled: bool


class _Regularize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, work: _Work
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs = [work.grad_enabled and needed for needed in ctx.needs_input_grad[:3]]
        hidden_grad = torch.empty_like(hidden_TD) if needs[0] else None
        weight_grad = work.weight_grad
        if needs[1] and weight_grad is None:
            weight_grad = torch.zeros_like(weight_VD, dtype=work.exact)
        bias_grad = torch.zeros_like(bias_V, dtype=work.exact) if bias_V is not None and needs[2] else None
        nll_T, kl_T = torch.zeros_like(work.weight_T), torch.zeros_like(work.weight_T)
        dtype, device = _matmul_dtype(hidden_TD), hidden_TD.device.type
        with torch.autocast(device, enabled=False):
            weight_VD, bias_V = weight_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)
            head, teacher = LMHead(weight_VD, bias_V), _in_matmul_dtype(work.teacher)
            student_logits, teacher_logits = _Logits(), _Logits()
            for chunk in _parts(0, len(hidden_TD), work.chunk_logits // len(weight_VD)):
                hidden_CD = hidden_TD[chunk].to(dtype)
                logits_CV = student_logits.of(hidden_CD, head)
                if isinstance(teacher, FullTeacher):
                    teacher_CV = teacher_logits.of(teacher.hidden_TD[chunk], teacher.head)
                for part in _parts(chunk.start, chunk.stop, BLOCK_LOGITS.get(device, 2**24) // len(weight_VD)):
                    rows = slice(part.start - chunk.start, part.stop - chunk.start)
                    z_RV = logits_CV[rows].to(work.exact)  # a view, or a copy where matmuls run in a lower precision
                    if isinstance(teacher, FullTeacher):
                        row_teacher: Any = _capped(teacher_CV[rows].to(work.exact), teacher.head.softcap)
                    elif isinstance(teacher, TopK):
                        row_teacher = TopK(teacher.ids_TK[part], teacher.log_p_TK[part])
                    else:
                        row_teacher = None
                    nll_T[part], kl_T[part] = _losses(z_RV, row_teacher, part, work)
                    if z_RV.dtype != logits_CV.dtype:
                        logits_CV[rows] = z_RV
                if hidden_grad is not None:
                    hidden_grad[chunk] = logits_CV @ weight_VD
                if weight_grad is not None:
                    _add_product(weight_grad, logits_CV.T, hidden_CD)
                if bias_grad is not None:
                    bias_grad += logits_CV.sum(0, dtype=work.exact)
        nll, kl = (work.weight_T * nll_T).sum(), (work.weight_T * kl_T).sum()
        ctx.added = work.weight_grad is not None
        ctx.gradients = [hidden_grad, None if ctx.added else weight_grad, bias_grad]
        ctx.mark_non_differentiable(nll, kl)
        return work.nll_weight * nll + work.kl_weight * kl, nll, kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the gradients were made in the forward pass and given out once. Compute the loss again")
        if ctx.added and grad_loss.item() != 1:
            raise ValueError(
                f"the gradient of the loss is {grad_loss.item()}, not 1, but the weight's gradient is added "
                "already. Put factors into nll_weight and kl_weight"
            )
        gradients = [None if g is None else g.mul_(grad_loss) for g in ctx.gradients]
        ctx.gradients = None  # nothing else may refer to them, so that autograd takes them over without a copy
        return (*gradients, None)


def _losses(z_RV: Tensor, teacher: Tensor | TopK | None, part: slice, work: _Work) -> tuple[Tensor, Tensor]:
    """NLL and KL (R,) of some rows. `z_RV` comes as logits and leaves as the gradient with respect to them."""
    nll_R1 = (work.nll_weight * work.weight_T[part]).unsqueeze(-1)  # what a row's NLL and KL count for in the loss
    kl_R1 = (work.kl_weight * work.weight_T[part]).unsqueeze(-1)
    target_R1 = work.target_T[part].unsqueeze(-1)
    _capped(z_RV, work.softcap)
    slope_RV = None if work.softcap is None else 1 - (z_RV / work.softcap).square_()
    z_RV.sub_(z_RV.amax(-1, keepdim=True))
    z_target_R1 = z_RV.gather(1, target_R1)
    if teacher is None:
        sum_R1 = z_RV.exp_().sum(-1, keepdim=True)
        kl_R = torch.zeros_like(sum_R1).squeeze(-1)
        z_RV.mul_(nll_R1 / sum_R1)
    elif isinstance(teacher, TopK):
        sum_R1, kl_R = _top_k(z_RV, teacher, nll_R1, kl_R1, work.tail)
    else:
        sum_R1, kl_R = _full(z_RV, teacher, nll_R1, kl_R1)
    z_RV.scatter_(1, target_R1, z_RV.gather(1, target_R1) - nll_R1)
    if slope_RV is not None:
        z_RV.mul_(slope_RV)
    return (sum_R1.log() - z_target_R1).squeeze(-1), kl_R


def _full(z_RV: Tensor, teacher_RV: Tensor, nll_R1: Tensor, kl_R1: Tensor) -> tuple[Tensor, Tensor]:
    """KL = Σ p (log p - log q); its gradient is q Σp - p."""
    shared = min(z_RV.shape[-1], teacher_RV.shape[-1])
    teacher_RV.sub_(teacher_RV.amax(-1, keepdim=True))
    p_RV = teacher_RV.exp()
    teacher_sum_R1 = p_RV.sum(-1, keepdim=True)
    p_RV = p_RV.div_(teacher_sum_R1)[:, :shared]
    ratio_RV = teacher_RV[:, :shared].sub_(z_RV[:, :shared])
    sum_R1 = z_RV.exp_().sum(-1, keepdim=True)
    kl_R = ratio_RV.add_(sum_R1.log() - teacher_sum_R1.log()).mul_(p_RV).sum(-1)
    z_RV.mul_((nll_R1 + kl_R1 * p_RV.sum(-1, keepdim=True)) / sum_R1)
    z_RV[:, :shared].addcmul_(p_RV, kl_R1, value=-1)
    return sum_R1, kl_R


def _top_k(z_RV: Tensor, teacher: TopK, nll_R1: Tensor, kl_R1: Tensor, tail: bool) -> tuple[Tensor, Tensor]:
    """KL = Σ_S p (log p - log q) + p_tail (log p_tail - log q_tail), S the k tokens, or without the second term.

    Gradient: q - p within S, q - p_tail q / q_tail outside. q_tail is a sum over the tokens outside, not 1 - Σq.
    """
    ids_RK, log_p_RK = teacher.ids_TK, teacher.log_p_TK
    real_RK = log_p_RK > -torch.inf
    p_RK = log_p_RK.exp()
    tail_R1 = (1 - p_RK.sum(-1, keepdim=True)).clamp_(min=0)
    tail_R1.masked_fill_(real_RK.sum(-1, keepdim=True) >= z_RV.shape[-1], 0)  # nothing is outside
    if not tail:
        log_p_RK = log_p_RK - p_RK.sum(-1, keepdim=True).log()
        p_RK, tail_R1 = log_p_RK.exp(), torch.zeros_like(tail_R1)
    z_RK = z_RV.gather(1, ids_RK)
    sum_R1 = z_RV.exp_().sum(-1, keepdim=True)
    log_q_RK = z_RK - sum_R1.log()
    q_tail_R1 = z_RV.scatter_(1, ids_RK, 0).sum(-1, keepdim=True).div_(sum_R1)
    q_tail_R1.clamp_(min=torch.finfo(z_RV.dtype).tiny)
    kl_R = (p_RK * (log_p_RK - log_q_RK).masked_fill_(~real_RK, 0)).sum(-1)
    kl_R += (torch.xlogy(tail_R1, tail_R1) - tail_R1 * q_tail_R1.log()).squeeze(-1)

    scale_R1 = nll_R1 + kl_R1 * (p_RK.sum(-1, keepdim=True) + tail_R1)
    z_RV.mul_((scale_R1 - kl_R1 * tail_R1 / q_tail_R1) / sum_R1)
    inside_RK = log_q_RK.exp() * scale_R1 - kl_R1 * p_RK
    z_RV.scatter_(1, ids_RK, torch.where(real_RK, inside_RK, inside_RK[:, :1]))  # padding repeats column 0
    return sum_R1, kl_R


class _Logits:
    """The logits of a chunk, always in the same memory."""

    def __init__(self) -> None:
        self.buffer: Tensor | None = None

    def of(self, hidden_CD: Tensor, head: LMHead) -> Tensor:
        if self.buffer is None:
            self.buffer = hidden_CD.new_empty(len(hidden_CD), len(head.weight_VD))
        logits_CV = self.buffer[: len(hidden_CD)]
        torch.mm(hidden_CD, head.weight_VD.T, out=logits_CV)
        return logits_CV if head.bias_V is None else logits_CV.add_(head.bias_V)


def _parts(start: int, stop: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` (one at least), all but equal, the longest first."""
    count = -(-(stop - start) // max(1, size))
    for number in range(count):
        left = -(-(stop - start) // (count - number))
        yield slice(start, start + left)
        start += left


def _capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def _exact(hidden: Tensor) -> torch.dtype:
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def _matmul_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _add_product(sum_VD: Tensor, logits_VC: Tensor, hidden_CD: Tensor) -> None:
    """sum += logits @ hidden; where those are of lower precision, by parts, so that their product stays small."""
    if sum_VD.dtype == hidden_CD.dtype:
        sum_VD.addmm_(logits_VC, hidden_CD)
        return
    for part in _parts(0, len(sum_VD), 2**24 // hidden_CD.shape[1]):
        sum_VD[part] += logits_VC[part] @ hidden_CD


def _in_matmul_dtype(teacher: FullTeacher | TopK | None) -> FullTeacher | TopK | None:
    if not isinstance(teacher, FullTeacher):
        return teacher
    dtype, head = _matmul_dtype(teacher.hidden_TD), teacher.head
    bias_V = None if head.bias_V is None else head.bias_V.to(dtype)
    return FullTeacher(teacher.hidden_TD.detach().to(dtype), LMHead(head.weight_VD.to(dtype), bias_V, head.softcap))


def checked(teacher: TopK, vocabulary: int, dtype: torch.dtype = torch.float32) -> TopK:
    """The same with padding that repeats column 0's id. Raises ValueError for rows that are no distribution."""
    ids_TK, log_p_TK = teacher.ids_TK, teacher.log_p_TK.detach().to(dtype)
    if ids_TK.ndim != 2 or ids_TK.shape != log_p_TK.shape or not ids_TK.shape[1]:
        raise ValueError(f"top-k ids and log-probabilities of shapes {tuple(ids_TK.shape)}, {tuple(log_p_TK.shape)}")
    real_TK = log_p_TK > -torch.inf
    ids_TK = torch.where(real_TK, ids_TK.long(), ids_TK[:, :1].long())
    if ((ids_TK < 0) | (ids_TK >= vocabulary)).any():
        raise ValueError(f"top-k ids beyond the student's vocabulary of {vocabulary}")
    mass_T = log_p_TK.exp().sum(-1)
    if not (real_TK[:, 0] & (mass_T <= 1 + EXCESS)).all():  # NaN compares false
        raise ValueError("a top-k row is empty, or its probabilities sum to more than 1")
    alone_TK = torch.where(real_TK, ids_TK, -1 - torch.arange(ids_TK.shape[1], device=ids_TK.device))
    ordered_TK = alone_TK.sort(-1).values
    if (ordered_TK[:, 1:] == ordered_TK[:, :-1]).any():
        raise ValueError("a token stands twice in a top-k row")
    return TopK(ids_TK, log_p_TK)


def _check(
    hidden_TD: Tensor,
    target_T: Tensor,
    weight_T: Tensor,
    head: LMHead,
    teacher: FullTeacher | TopK | None,
    weight_grad: Tensor | None,
) -> None:
    if hidden_TD.ndim != 2 or target_T.ndim != 1 or target_T.shape != weight_T.shape:
        shapes = [tuple(t.shape) for t in (hidden_TD, target_T, weight_T)]
        raise ValueError(f"hidden states (T, D), targets (T,) and weights (T,) are needed, got shapes {shapes}")
    rows = {"targets": target_T}
    if isinstance(teacher, FullTeacher):
        rows["teacher's hidden states"] = teacher.hidden_TD
    elif isinstance(teacher, TopK):
        rows["top-k rows"] = teacher.ids_TK
    for name, tensor in rows.items():
        if len(tensor) != len(hidden_TD):
            raise ValueError(f"{len(hidden_TD)} positions, but {len(tensor)} {name}")
    if _matmul_dtype(hidden_TD) == torch.float16:
        raise ValueError("float16 cannot hold the gradients of many tokens' mean. Use bfloat16")
    if len(target_T) and not 0 <= int(target_T.min()) <= int(target_T.max()) < len(head.weight_VD):
        raise ValueError(f"targets from {target_T.min()} to {target_T.max()}, vocabulary {len(head.weight_VD)}")
    if weight_grad is not None and weight_grad.shape != head.weight_VD.shape:
        raise ValueError(f"weight_grad of shape {tuple(weight_grad.shape)}, weight of {tuple(head.weight_VD.shape)}")
