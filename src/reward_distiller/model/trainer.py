"""Training: one optimizer step is a fixed number of pairs, whatever way it is cut into micro-batches and processes.

Loss of a step (paper, eq. 5):
    pair_weight · 1/P Σ_pairs pair loss + center · 1/P Σ_pairs (r_w + r_l)²
    + 1/W Σ_yT w (nll_weight · NLL + kl_weight · KL), each token of y_T weighing 1/L,
with P the pairs of the whole step, w the pairs that a teacher response stands for, and W their sum.
The same seed, thread count and machine give the same weights, bit for bit on a CPU, also through a kill and a
restart from a checkpoint. Devices and processes are `accelerate`'s. Knows no files but through `Checkpoints`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from reward_distiller.config import Training
from reward_distiller.console import say, track
from reward_distiller.errors import TrainingError
from reward_distiller.model.batches import EncodedPair, Group, micro_batches, plan_steps, share
from reward_distiller.model.chat import Encoded
from reward_distiller.model.checkpoints import Checkpoints, Progress
from reward_distiller.model.comparisons import comparisons
from reward_distiller.model.layout import lay_out
from reward_distiller.model.network import RewardNetwork, Supervision, is_tied
from reward_distiller.model.objectives import Objective, centering
from reward_distiller.model.teachers import TokenTeacher
from reward_distiller.model.training_log import TrainingLog
from reward_distiller.model.tree_attention import enable_trees

PARTS = ("loss", "pair_loss", "nll", "kl", "center", "accuracy", "reward_margin")
FILLER = Group([Encoded((0,))])  # keeps processes in step that have a micro-batch less; weighs nothing


@dataclass(frozen=True)
class _Step:
    """What the means of a step are taken over, in all processes together."""

    pairs: int
    pair_weights: float
    responses: int  # supervised ones, each with the pairs that it stands for

    @classmethod
    def of(cls, groups: Sequence[Group]) -> _Step:
        pairs = [pair for g in groups for _, _, pair in g.pairs]
        return cls(len(pairs), math.fsum(p.weight for p in pairs), sum(g.supervised.total() for g in groups))


class Trainer:
    """Trains a network on encoded pairs. `accelerate launch` starts it in several processes, plain Python in one."""

    def __init__(
        self,
        network: RewardNetwork,
        objective: Objective,
        settings: Training,
        teacher: TokenTeacher | None = None,
        name: str = "train",
    ):
        if objective.kl_weight > 0 and teacher is None:
            raise TrainingError("the KL term needs the teacher's distribution: a reference LM or a store of them")
        if objective.regularized and network.lm_head is None:
            raise TrainingError(
                "the regularization needs an LM head, and this checkpoint has none. Start from a base LM or from a "
                "model that this package exported, or set rm_distiller.alpha=0 and rm_distiller.beta=0"
            )
        self.accelerator = Accelerator(cpu=settings.device == "cpu" or not torch.accelerator.is_available())
        self.alone = self.accelerator.num_processes == 1
        self.device = torch.device(settings.device) if settings.device and self.alone else self.accelerator.device
        if self.accelerator.distributed_type != DistributedType.FSDP:  # which shards it before it moves it
            network.to(self.device)
        self.name = name  # of what a person sees
        self.network, self.objective, self.settings = network, objective, settings
        self.center = 0.0 if objective.absolute or not objective.pair_weight else settings.center
        self.teacher = teacher if objective.kl_weight > 0 else None
        self.layout = settings.layout
        reason = enable_trees(network.classifier.base_model) if self.layout == "trees" else None
        if reason is not None:
            say(f"{self.name}: {reason}; padded rows are used instead, slower and as exact")
            self.layout = "padded"
        network.matmul_dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        network.adds_lm_gradient_in_place = self.alone
        if not objective.regularized and network.lm_head is not None and not is_tied(network):
            network.lm_head.requires_grad_(False)  # nothing reads it, so nothing trains it
        if settings.gradient_checkpointing:
            network.classifier.activation_checkpointing_enable({"use_reentrant": False})
        self.model: Any = network  # as `accelerate` wraps it
        self.steps = 0  # of the training, done now or before a restart
        self.seconds = 0.0  # that they took

    # -- the loop -----------------------------------------------------------------------------------

    def train(
        self,
        pairs: Sequence[EncodedPair],
        seed: int,
        validation: Sequence[EncodedPair] = (),
        checkpoints: Checkpoints | None = None,
        log: TrainingLog | None = None,
    ) -> Iterator[dict[str, float]]:
        """Yield a row of figures for each step done now; steps before a checkpoint's are in the log already.

        With `validation`, the weights of the evaluated step with the lowest pair loss are kept in the end.
        Raises TrainingError where a loss or a gradient is no number.
        """
        if not pairs:
            raise TrainingError("no pairs are left to train on. See the balance of each step for what became of them")
        steps = plan_steps(pairs, self.settings.pairs_per_step, self.settings.epochs, seed, self.settings.shuffle)
        self.steps = len(steps)
        with exact(self.settings.threads):
            optimizer = self._prepare()
            progress = checkpoints.restore(self.network, optimizer) if checkpoints else Progress()
            if log:
                log.keep(progress.step)
            self.seconds = progress.seconds
            start = time.perf_counter() - progress.seconds
            with track(self.name, len(steps) - progress.step) as advance:
                for number in range(progress.step, len(steps)):
                    row = self._step(optimizer, steps[number], number, len(steps), checkpoints)
                    if validation and self._due(number + 1, len(steps), self.settings.evaluate_every):
                        figures = self.evaluate(validation)
                        row |= {f"validation_{name}": figures[name] for name in ("pair_loss", "accuracy")}
                        progress = self._keep_best(progress, number + 1, figures["pair_loss"], checkpoints)
                    self.seconds = time.perf_counter() - start
                    progress = progress.at(number + 1, self.seconds)
                    if log:
                        log.write(row)
                    if checkpoints and self._due(number + 1, len(steps), self.settings.checkpoint_every):
                        checkpoints.save(self.network, optimizer, progress)
                    advance()
                    yield row
            if progress.best_step and checkpoints:
                say(f"{self.name}: the weights of step {progress.best_step} are kept, the best on validation")
                self.accelerator.wait_for_everyone()  # the main process has written them
                checkpoints.load_best(self.network)
                self.accelerator.wait_for_everyone()  # all have read them
        self.network.eval()

    def _prepare(self) -> torch.optim.Optimizer:
        self.network.train()
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            parameters, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay, fused=True
        )
        if self.alone:
            return optimizer
        self.model, prepared = self.accelerator.prepare(self.network, optimizer)
        return prepared.optimizer

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[Group],
        number: int,
        total: int,
        checkpoints: Checkpoints | None,
    ) -> dict[str, float]:
        warmup = max(1, round(self.settings.warmup_ratio * total))
        rate = self.settings.learning_rate * cosine(number, warmup, total)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        figures = self.accumulate(groups)
        parameters = [p for g in optimizer.param_groups for p in g["params"]]
        norm = float(self.accelerator.clip_grad_norm_(parameters, self.settings.max_grad_norm))
        if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
            ids = ", ".join(p.id for g in groups for _, _, p in g.pairs)
            raise TrainingError(
                f"step {number + 1}: loss {figures['loss']}, gradient norm {norm}. "
                f"{checkpoints.last_good() if checkpoints else 'There is no checkpoint'}. Lower "
                f"training.learning_rate and run again; the step's pairs: {ids}"
            )
        optimizer.step()
        return {"step": number + 1, **figures, "grad_norm": norm, "learning_rate": rate}

    @staticmethod
    def _due(step: int, total: int, every: int) -> bool:
        return every > 0 and (step % every == 0 or step == total)

    def _keep_best(self, progress: Progress, step: int, loss: float, checkpoints: Checkpoints | None) -> Progress:
        if progress.best_step and not loss < progress.best_loss:  # also where it is no number
            return progress
        if checkpoints:
            checkpoints.save_best(self.network)
        return replace(progress, best_step=step, best_loss=loss)

    def gathered(self) -> dict[str, Any] | None:
        """All weights where no process holds the whole network (FSDP), complete in the main process; None elsewhere."""
        if not any(isinstance(p, DTensor) for p in self.network.parameters()):
            return None
        return get_model_state_dict(self.network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))

    def end(self) -> None:
        """Part from the other processes, all at once: one that exits with the group still open may abort in doing so.

        Nothing of this trainer may be called afterwards. Alone, it does nothing.
        """
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    # -- one step -----------------------------------------------------------------------------------

    def accumulate(self, groups: Sequence[Group]) -> dict[str, float]:
        """Add one step's gradients up over its micro-batches; give the step's loss and its parts."""
        return self._totals(groups, train=True)

    @torch.no_grad()
    def evaluate(self, pairs: Sequence[EncodedPair]) -> dict[str, float]:
        """The parts of the loss over all the pairs at once; no gradients."""
        (groups,) = plan_steps(pairs, len(pairs), 1, 0)
        self.network.eval()
        try:
            return self._totals(groups, train=False)
        finally:
            self.network.train()

    def _totals(self, groups: Sequence[Group], train: bool) -> dict[str, float]:
        step = _Step.of(groups)
        batches = self._batches(groups)
        total = torch.zeros(len(PARTS), dtype=torch.float64)
        for number, batch in enumerate(batches, 1):
            waits = train and not self.alone and number < len(batches)
            with self.accelerator.no_sync(self.model) if waits else nullcontext():
                parts = self._losses(batch, step)
                if train:  # processes average their gradients; the loss's means are over all of them
                    torch.autograd.backward(parts["loss"] * self.accelerator.num_processes)
            total += torch.stack([parts[name].detach().double().cpu() for name in PARTS])
        if not self.alone:
            total = self.accelerator.reduce(total.to(self.device), "sum").cpu()
        return dict(zip(PARTS, total.tolist(), strict=True))

    def _batches(self, groups: Sequence[Group]) -> list[list[Group]]:
        """This process's micro-batches, as many as every other has."""
        shares = share(groups, self.accelerator.num_processes)
        cut = [micro_batches(part, self.settings.tokens_per_batch, self.layout) for part in shares]
        mine = cut[self.accelerator.process_index]
        return mine + [[FILLER]] * (max(map(len, cut)) - len(mine))

    def _losses(self, groups: Sequence[Group], step: _Step) -> dict[str, Tensor]:
        """One micro-batch's share of every mean over the step."""
        sequences = [s for g in groups for s in g.sequences]
        layout = lay_out([s.ids for s in sequences], self.layout).to(self.device)
        supervised, first = [], 0
        for group in groups:
            supervised += [(first + at, count / step.responses) for at, count in group.supervised.items()]
            first += len(group.sequences)
        read = comparisons(groups, layout, self.objective.aligned_weight)
        output = self.model(layout, self._supervision(sequences, supervised, layout), read.slot_N)
        reward_NA = output.reward_NA
        reward_N = reward_NA @ reward_NA.new_tensor(self.objective.attributes)
        w_C, l_C = (torch.tensor(at, dtype=torch.long, device=self.device) for at in (read.chosen_C, read.rejected_C))
        r_w, r_l = reward_N[w_C], reward_N[l_C]
        s_w, s_l = (
            reward_NA.new_tensor(scores).reshape(len(scores), len(self.objective.attributes))
            for scores in (read.chosen_scores_CA, read.rejected_scores_CA)
        )
        if self.objective.absolute:
            losses = self.objective.pair_loss(reward_NA[w_C], reward_NA[l_C], s_w, s_l)
        else:
            losses = self.objective.pair_loss(r_w, r_l, s_w[:, 0], s_l[:, 0])
        pair_loss = (losses * losses.new_tensor(read.weight_C)).sum() / step.pair_weights
        r_w, r_l = r_w[: len(read.pairs)], r_l[: len(read.pairs)]  # at the ends
        center = centering(r_w, r_l).sum() / step.pairs
        loss = self.objective.pair_weight * pair_loss + self.center * center + output.regularization
        difference_B = (r_w - r_l).detach()
        return {
            "loss": loss + 0.0 * reward_NA.sum(),  # every parameter takes part in every micro-batch of every process
            "pair_loss": pair_loss,
            "nll": output.nll,
            "kl": output.kl,
            "center": center,
            "accuracy": (difference_B > 0).sum() / step.pairs,
            "reward_margin": difference_B.sum() / step.pairs,
        }

    def _supervision(
        self, sequences: Sequence[Encoded], supervised: Sequence[tuple[int, float]], layout: Any
    ) -> Supervision | None:
        """The tokens of the teacher's responses: (place among the sequences, weight of the whole response) each."""
        if not self.objective.regularized:
            return None
        predict = [torch.zeros(0, dtype=torch.long)]
        target: list[int] = []
        weight: list[float] = []
        for at, share_of_step in supervised:
            response = sequences[at].response
            predict.append(layout.slots_of(at)[response.start - 1 : response.stop - 1])
            target += sequences[at].ids[response.start : response.stop]
            weight += [share_of_step / len(response)] * len(response)
        teacher = None
        if self.teacher is not None:
            teacher = self.teacher.of([sequences[at] for at, _ in supervised], self.device)
        return Supervision(
            torch.cat(predict).to(self.device),
            torch.tensor(target, dtype=torch.long, device=self.device),
            torch.tensor(weight, dtype=torch.float32, device=self.device),
            teacher,
            self.objective.nll_weight,
            self.objective.kl_weight,
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
