"""Training: one optimizer step is a fixed number of pairs, whatever way it is cut into micro-batches.

Loss of a step (paper, eq. 5):
    pair_weight · 1/P Σ_pairs pair loss + center · 1/P Σ_pairs (r_w + r_l)²
    + 1/W Σ_yT w (nll_weight · NLL + kl_weight · KL), each token of y_T weighing 1/L,
with P the pairs of the whole step, w the pairs that a teacher response stands for, and W their sum.
The same seed, thread count and machine give the same weights, bit for bit on a CPU. Knows no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reward_distiller.config import Training
from reward_distiller.console import track
from reward_distiller.errors import ModelError, TrainingError
from reward_distiller.model.batches import EncodedPair, Group, micro_batches, pad, plan_steps
from reward_distiller.model.network import RewardNetwork, soft_capped
from reward_distiller.model.objectives import Objective, centering, response_losses


@dataclass(frozen=True)
class ReferenceLM:
    """The teacher as a local LM, for the KL term."""

    lm: Any

    def hidden(self, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        with torch.no_grad():
            return self.lm.base_model(input_ids=ids_NL, attention_mask=mask_NL, use_cache=False).last_hidden_state

    def logits(self, hidden_TD: Tensor) -> Tensor:
        cap = getattr(self.lm.config, "final_logit_softcapping", None)
        return soft_capped(self.lm.get_output_embeddings()(hidden_TD), cap)


def check_vocabularies(student: Any, teacher: Any, where: str) -> None:
    """Raise ModelError unless the two agree on every token, but for ones added after the other's last id."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    shared = min(max(ours.values()), max(theirs.values()))
    of_id = {identity: token for token, identity in ours.items()}
    wrong = [token for token, identity in theirs.items() if identity <= shared and of_id.get(identity) != token]
    if wrong:
        raise ModelError(
            f"rm_distiller.kl_teacher: {where} has another vocabulary than the student ({len(wrong)} of {len(theirs)} "
            f"tokens differ, {wrong[0]!r} for one). Use a teacher of the same family, or set rm_distiller.beta=0"
        )


class Trainer:
    """Trains a network on encoded pairs. Yields a row of figures for each step."""

    def __init__(
        self,
        network: RewardNetwork,
        objective: Objective,
        settings: Training,
        pad_id: int,
        reference: ReferenceLM | None = None,
        device: torch.device | str = "cpu",
    ):
        if objective.kl_weight > 0 and reference is None:
            raise TrainingError("the KL term needs a reference LM")
        self.network, self.objective, self.settings = network.to(device), objective, settings
        self.reference = reference if objective.kl_weight > 0 else None
        self.pad_id, self.device = pad_id, device

    def train(self, pairs: Sequence[EncodedPair], seed: int) -> Iterator[dict[str, float]]:
        if not pairs:
            raise TrainingError("no pairs are left to train on. See the balance of each step for what became of them")
        steps = plan_steps(pairs, self.settings.pairs_per_step, self.settings.epochs, seed)
        parameters = list(self.network.parameters())
        optimizer = torch.optim.AdamW(
            parameters, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        warmup = max(1, round(self.settings.warmup_ratio * len(steps)))
        with exact(self.settings.threads), track("train", len(steps)) as advance:
            self.network.train()
            for number, groups in enumerate(steps):
                rate = self.settings.learning_rate * cosine(number, warmup, len(steps))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                figures = self.accumulate(groups)
                norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm))
                if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
                    ids = ", ".join(i for g in groups for i in g.pair_ids)
                    raise TrainingError(
                        f"step {number + 1}: loss {figures['loss']}, gradient norm {norm}. Lower "
                        f"training.learning_rate; the step's pairs: {ids}"
                    )
                optimizer.step()
                advance()
                yield {"step": number + 1, **figures, "grad_norm": norm, "learning_rate": rate}
            self.network.eval()

    def accumulate(self, groups: Sequence[Group]) -> dict[str, float]:
        """Add one step's gradients up over its micro-batches; give the step's loss and its parts."""
        pairs = sum(len(g.pairs) for g in groups)
        weights = sum(g.teachers.total() for g in groups)
        totals = {"pair_loss": 0.0, "nll": 0.0, "kl": 0.0, "center": 0.0, "accuracy": 0.0, "reward_margin": 0.0}
        totals["loss"] = 0.0
        for batch in micro_batches(groups, self.settings.tokens_per_batch):
            parts = self._losses(batch, pairs, weights)
            loss = (
                self.objective.pair_weight * parts["pair_loss"]
                + self.objective.nll_weight * parts["nll"]
                + self.objective.kl_weight * parts["kl"]
                + self.settings.center * parts["center"]
            )
            torch.autograd.backward(loss)
            totals["loss"] += loss.item()
            for name, value in parts.items():
                totals[name] += value.item()
        return totals

    def _losses(self, groups: Sequence[Group], pairs_of_step: int, weights_of_step: int) -> dict[str, Tensor]:
        """One micro-batch's share of every mean over the step."""
        sequences = [s for g in groups for s in g.sequences]
        batch = pad(sequences, self.pad_id, self.device)
        hidden_NLD = self.network.hidden(batch)
        reward_N = self.network.rewards(hidden_NLD, batch)
        chosen, rejected, margins, first = [], [], [], 0
        supervised: list[tuple[int, range, float]] = []  # row, positions of the targets, weight of each token
        for group in groups:
            for w, l, margin in group.pairs:
                chosen.append(first + w)
                rejected.append(first + l)
                margins.append(margin)
            for teacher, weight in group.teachers.items() if self.objective.regularized else ():
                response = group.sequences[teacher].response
                supervised.append((first + teacher, response, weight / (len(response) * weights_of_step)))
            first += len(group.sequences)
        chosen_B, rejected_B = reward_N[chosen], reward_N[rejected]
        margin_B = torch.tensor(margins, dtype=reward_N.dtype, device=reward_N.device)
        with torch.no_grad():
            difference_B = chosen_B - rejected_B
        nll, kl = self._regularize(batch.ids_NL, batch.mask_NL, hidden_NLD, supervised)
        return {
            "pair_loss": self.objective.pair_loss(chosen_B, rejected_B, margin_B).sum() / pairs_of_step,
            "nll": nll,
            "kl": kl,
            "center": centering(chosen_B, rejected_B).sum() / pairs_of_step,
            "accuracy": (difference_B > 0).float().sum() / pairs_of_step,
            "reward_margin": difference_B.sum() / pairs_of_step,
        }

    def _regularize(
        self, ids_NL: Tensor, mask_NL: Tensor, hidden_NLD: Tensor, supervised: list[tuple[int, range, float]]
    ) -> tuple[Tensor, Tensor]:
        if not supervised:
            zero = hidden_NLD.new_zeros(())
            return zero, zero
        at = [(row, position) for row, response, _ in supervised for position in response]
        rows_T, positions_T = (torch.tensor(x, device=hidden_NLD.device) for x in zip(*at, strict=True))
        weight_T = torch.tensor([w for _, response, w in supervised for _ in response], device=hidden_NLD.device)
        teacher_TD = teacher_logits = None
        if self.reference is not None:
            only = torch.tensor([row for row, _, _ in supervised], device=hidden_NLD.device)
            place = {row: i for i, (row, _, _) in enumerate(supervised)}
            teacher_NLD = self.reference.hidden(ids_NL[only], mask_NL[only])
            teacher_rows = torch.tensor([place[row] for row, _ in at], device=hidden_NLD.device)
            teacher_TD = teacher_NLD[teacher_rows, positions_T - 1]
            teacher_logits = self.reference.logits
        # The hidden state at t - 1 predicts the token at t, for the teacher as for the student.
        return response_losses(
            hidden_NLD[rows_T, positions_T - 1],
            ids_NL[rows_T, positions_T],
            weight_T,
            self.network.logits,
            teacher_TD,
            teacher_logits,
        )


def cosine(step: int, warmup: int, total: int) -> float:
    """Linear warm-up to 1, then a cosine down to 0 (table 8)."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


@contextmanager
def exact(threads: int | None) -> Iterator[None]:
    """Deterministic kernels and a fixed number of CPU threads, put back afterwards."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    torch.set_num_threads(threads or before)
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # nothing reads it, and filling costs a tenth
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = filled
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(deterministic)
