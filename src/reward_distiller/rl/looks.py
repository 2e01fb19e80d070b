"""Looks at a policy while it is trained and when it is done: on prompts of their own, beside the reference.

What a hacked reward shows: rewards rise while responses grow, repeat themselves or leave the reference far behind, and,
where a truth is known, while quality falls. A look disturbs no draw of the training. Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from reward_distiller.config import Guards
from reward_distiller.console import say
from reward_distiller.errors import GuardBreached
from reward_distiller.rl.policy import Policy, Sampled
from reward_distiller.rl.reward import Reward
from reward_distiller.rl.terms import repetition
from reward_distiller.rl.training import Task, samples_of, seed_of

Quality = Callable[[str, str], float]  # of a prompt's last turn and a response, in 0..1


@dataclass(frozen=True)
class Seen:
    """Figures of each response by name: tokens, repetition, kl, reward, reward_NAME and, where a truth is known,
    quality and accuracy (1 where the quality is, else 0)."""

    responses: list[str]
    figures: dict[str, list[float]]


@dataclass(frozen=True)
class Observer:
    """Samples one response to each task, the same draws each time, and compares with the reference LM."""

    tasks: Sequence[Task]
    reference: Any
    reward: Reward | None
    quality: Quality | None
    seed: int

    def see(self, policy: Policy, count: int | None = None) -> Seen:
        """The first `count` tasks, or all."""
        tasks = self.tasks[:count]
        sampled = _sampled(policy, tasks, self.seed)
        samples = samples_of(tasks, sampled)
        figures = {
            "tokens": [float(s.tokens) for s in samples],
            "repetition": [repetition(s.response) for s in samples],
            "kl": policy.kl_to(self.reference, sampled),
        }
        if self.reward is not None:
            scored = self.reward(samples)
            figures |= {"reward": scored.total, **{f"reward_{name}": v for name, v in scored.terms.items()}}
        if self.quality is not None:
            figures["quality"] = [
                self.quality(task.prompt.messages[-1].content, s.response)
                for task, s in zip(tasks, samples, strict=True)
            ]
            figures["accuracy"] = [float(value >= 1) for value in figures["quality"]]
        return Seen([s.response for s in samples], figures)

    def tokens_of_reference(self, policy: Policy, count: int) -> float:
        """Mean tokens of the reference's responses."""
        sampled = _sampled(policy.with_lm(self.reference), self.tasks[:count], self.seed)
        return fmean(len(s.ids) for s in sampled)


def _sampled(policy: Policy, tasks: Sequence[Task], seed: int) -> list[Sampled]:
    devices = [policy.lm.device] if policy.lm.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed_of("look", seed))
        return policy.sample([task.opening for task in tasks])


class Looks:
    """`look(step)` for a training: the means of what is seen, held against the guards."""

    def __init__(self, observer: Observer, policy: Policy, guards: Guards):
        self.observer, self.policy, self.guards = observer, policy, guards
        self._reference_tokens: float | None = None

    def __call__(self, step: int) -> dict[str, float]:
        """Raises GuardBreached where a guard says stop."""
        if not self.observer.tasks:
            return {}
        count = min(self.guards.prompts, len(self.observer.tasks))
        if self._reference_tokens is None:
            self._reference_tokens = self.observer.tokens_of_reference(self.policy, count)
        means = {name: fmean(values) for name, values in self.observer.see(self.policy, count).figures.items()}
        means["length_ratio"] = means["tokens"] / max(self._reference_tokens, 1e-9)
        for name, value, limit in _breaches(self.guards, means):
            message = f"step {step}: {name} is {value:.3g}, over guards.max_{name}={limit:g}"
            if self.guards.breach == "stop":
                raise GuardBreached(f"{message}. The checkpoint before it is kept; look at rl.jsonl for when it began")
            say(f"warning: {message}. The reward may be hacked; look at the responses")
        return {f"look_{name}": value for name, value in means.items()}


def _breaches(guards: Guards, means: dict[str, float]) -> list[tuple[str, float, float]]:
    limits = {"kl": guards.max_kl, "length_ratio": guards.max_length_ratio, "repetition": guards.max_repetition}
    return [(name, means[name], limit) for name, limit in limits.items() if limit is not None and means[name] > limit]
