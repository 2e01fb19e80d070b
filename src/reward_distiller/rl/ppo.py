"""Proximal Policy Optimization (Schulman et al., 2017) of a policy with a critic of its own, in one process.

A step samples responses, scores them, puts the KL to the reference token by token into the reward, and goes through
them in as many updates as the config says. An update's loss is a mean over its tokens, however it is cut into batches.
All draws of a step follow from seed and step, so weights, optimizer state and a step number are a training's state.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from reward_distiller.console import track
from reward_distiller.errors import TrainingError
from reward_distiller.model.checkpoints import Checkpoints
from reward_distiller.rl.policy import Batch, Policy, Sampled, token_log_probabilities
from reward_distiller.rl.ppo_losses import (
    clipped_policy_loss,
    clipped_value_loss,
    generalized_advantages,
    token_rewards,
    whitened,
)
from reward_distiller.rl.training import Task, Training, seed_of


class ActorCritic(nn.Module):
    """The policy's LM, and a critic: a copy of its backbone with a linear head that starts at 0."""

    def __init__(self, lm: Any):
        super().__init__()
        self.lm = lm
        self.backbone = copy.deepcopy(lm.base_model)
        self.value = nn.Linear(lm.config.get_text_config().hidden_size, 1, dtype=torch.float32).to(lm.device)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def values(self, batch: Batch) -> Tensor:
        """What is to come, at each place of the responses before its token is known, R by T; 0 where no token is."""
        hidden_RLD = self.backbone(**batch.inputs, use_cache=False).last_hidden_state
        most = batch.target_RT.shape[1]
        value_RT = self.value(hidden_RLD[:, -most - 1 : -1].float()).squeeze(-1)
        return value_RT.masked_fill(~batch.mask_RT, 0.0)

    def critic_parameters(self) -> list[nn.Parameter]:
        return [*self.backbone.parameters(), *self.value.parameters()]


@dataclass(frozen=True)
class Rollout:
    """Responses with what was known when they were sampled. Tensors are R by T, on the CPU."""

    sampled: list[Sampled]
    log_p_RT: Tensor
    value_RT: Tensor
    advantage_RT: Tensor
    return_RT: Tensor


def train(training: Training) -> None:
    """Train the policy in place, from its last checkpoint where there is one of the same inputs."""
    config, settings = training.config, training.config.optimization
    policy, own = training.policy, config.ppo
    reference = copy.deepcopy(policy.lm).requires_grad_(False).eval()
    network = ActorCritic(policy.lm)
    if settings.gradient_checkpointing:
        policy.lm.gradient_checkpointing_enable()
        network.backbone.gradient_checkpointing_enable()
    groups = [
        {"params": list(policy.lm.parameters()), "lr": settings.learning_rate},
        {"params": network.critic_parameters(), "lr": own.critic_learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    checkpoints = Checkpoints(training.checkpoints, training.key)
    progress = checkpoints.restore(network, optimizer)
    training.reward.restore(progress.beside)
    training.log.keep(progress.step)
    with track("ppo", settings.steps - progress.step) as advance:
        for step in range(progress.step + 1, settings.steps + 1):
            start = time.perf_counter()
            torch.manual_seed(seed_of("ppo", config.seed, step))
            rollout, row = _rollout(training, network, reference, tasks_of(training, step))
            for group, rate in zip(optimizer.param_groups, _rates(training, step), strict=True):
                group["lr"] = rate
            row |= _update(training, network, optimizer, rollout, step)
            if not all(map(math.isfinite, row.values())):
                raise TrainingError(f"ppo: step {step} has figures that are not finite. {checkpoints.last_good()}")
            if training.looks_at(step):
                row |= training.look(step)
            training.log.write({"step": step, **row})
            progress = progress.at(step, progress.seconds + time.perf_counter() - start)
            if step % settings.checkpoint_every == 0 and step < settings.steps:
                progress = replace(progress, beside=training.reward.state)
                checkpoints.save(network, optimizer, progress)
            advance()


def tasks_of(training: Training, step: int) -> list[Task]:
    """The tasks of a step, each as often as it is sampled, from one shuffled pass through all of them after another."""
    config, count = training.config, training.config.rollout.prompts_per_step
    order: list[int] = []
    first = (step - 1) * count
    for pass_number in range(first // len(training.tasks), (first + count - 1) // len(training.tasks) + 1):
        one = list(range(len(training.tasks)))
        random.Random(f"tasks:{config.seed}:{pass_number}").shuffle(one)
        order += one
    begin = first % len(training.tasks)
    chosen = [training.tasks[at] for at in order[begin : begin + count]]
    return [task for task in chosen for _ in range(config.responses_per_prompt)]


def _rates(training: Training, step: int) -> tuple[float, float]:
    """Learning rates of policy and critic: the policy rests in the critic's warmup; both rise in the first updates."""
    settings, own = training.config.optimization, training.config.ppo
    updates = (step - 1) * settings.updates_per_step * settings.epochs_per_step + 1
    rise = min(1.0, updates / settings.warmup_steps) if settings.warmup_steps else 1.0
    policy = 0.0 if step <= own.critic_warmup else settings.learning_rate * rise
    return policy, own.critic_learning_rate * rise


def _rollout(
    training: Training, network: ActorCritic, reference: Any, tasks: Sequence[Task]
) -> tuple[Rollout, dict[str, float]]:
    policy, own = training.policy, training.config.ppo
    network.eval()
    sampled = policy.sample([task.opening for task in tasks])
    scored, row = training.score(tasks, sampled)
    before = policy.with_lm(reference)
    log_p_RT = _padded(policy.log_probabilities(sampled))
    reference_RT = _padded(before.log_probabilities(sampled))
    value_RT = _padded(_values(network, policy, sampled))
    lengths = torch.tensor([len(s.ids) for s in sampled])
    mask_RT = torch.arange(log_p_RT.shape[1]) < lengths[:, None]
    reward_RT = token_rewards(torch.tensor(scored.total), log_p_RT, reference_RT, mask_RT, own.kl)
    advantage_RT, return_RT = generalized_advantages(reward_RT, value_RT, mask_RT, own.gamma, own.lam)
    row["kl"] = float(((log_p_RT - reference_RT) * mask_RT).sum(1).mean())
    left, whole = ((tensor[mask_RT]).var(correction=0) for tensor in (return_RT - value_RT, return_RT))
    row["value_explained"] = float(1 - left / whole.clamp(min=1e-8))
    return Rollout(sampled, log_p_RT, value_RT, whitened(advantage_RT, mask_RT), return_RT), row


@torch.no_grad()
def _values(network: ActorCritic, policy: Policy, sampled: Sequence[Sampled]) -> list[Tensor]:
    found: list[Tensor] = [torch.empty(0)] * len(sampled)
    for places, batch in policy.batches(sampled):
        with policy.autocast():
            value_RT = network.values(batch).cpu()
        for at, row in zip(places, value_RT, strict=True):
            found[at] = row[: len(sampled[at].ids)].clone()
    return found


def _padded(rows: Sequence[Tensor]) -> Tensor:
    return pad_sequence(list(rows), batch_first=True)


def _update(
    training: Training, network: ActorCritic, optimizer: torch.optim.Optimizer, rollout: Rollout, step: int
) -> dict[str, float]:
    """All updates of a step; means over them, by token or by update."""
    settings = training.config.optimization
    network.train()
    sums: dict[str, float] = {}
    tokens = updates = 0
    for places in _updates(training, len(rollout.sampled), step):
        optimizer.zero_grad()
        count = sum(len(rollout.sampled[at].ids) for at in places)
        for name, value in _backward(training, network, rollout, places, count).items():
            sums[name] = sums.get(name, 0.0) + value
        norm = nn.utils.clip_grad_norm_(training.policy.lm.parameters(), settings.max_grad_norm)
        critic_norm = nn.utils.clip_grad_norm_(network.critic_parameters(), settings.max_grad_norm)
        optimizer.step()
        sums["grad_norm"] = sums.get("grad_norm", 0.0) + float(norm)
        sums["critic_grad_norm"] = sums.get("critic_grad_norm", 0.0) + float(critic_norm)
        tokens, updates = tokens + count, updates + 1
    return {name: value / (updates if name.endswith("grad_norm") else tokens) for name, value in sums.items()}


def _updates(training: Training, count: int, step: int) -> Iterator[list[int]]:
    """The responses of each update, in an order drawn anew each epoch."""
    settings = training.config.optimization
    size = count // settings.updates_per_step
    for epoch in range(settings.epochs_per_step):
        order = list(range(count))
        random.Random(f"updates:{training.config.seed}:{step}:{epoch}").shuffle(order)
        for start in range(0, count, size):
            yield order[start : start + size]


def _backward(
    training: Training, network: ActorCritic, rollout: Rollout, places: Sequence[int], count: int
) -> dict[str, float]:
    """Add an update's gradients, batch by batch; give sums over its tokens."""
    policy, own = training.policy, training.config.ppo
    sums = dict.fromkeys(("loss", "value_loss", "entropy", "clipped"), 0.0)
    sampled = [rollout.sampled[at] for at in places]
    for within, batch in policy.batches(sampled, training.config.optimization.rows_per_batch):
        rows, width = torch.tensor([places[at] for at in within]), batch.target_RT.shape[1]
        old, values, advantages, returns = (
            tensor[rows, :width].to(batch.ids_RL.device)
            for tensor in (rollout.log_p_RT, rollout.value_RT, rollout.advantage_RT, rollout.return_RT)
        )
        with policy.autocast():
            log_p_RT, entropy_RT = token_log_probabilities(policy.lm, batch, policy.temperature)
            value_RT = network.values(batch)
        loss, clipped = clipped_policy_loss(log_p_RT, old, advantages, batch.mask_RT, own.clip)
        value_loss = clipped_value_loss(value_RT, values, returns, batch.mask_RT, own.value_clip)
        torch.autograd.backward((loss + value_loss) / count)
        figures = {"loss": loss, "value_loss": value_loss, "entropy": entropy_RT.sum(), "clipped": clipped}
        for name, value in figures.items():
            sums[name] += float(value.detach())
    return sums
