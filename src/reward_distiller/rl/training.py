"""What every algorithm is given, and what it owes: the policy trained in place, a row of figures a step, looks between.

An algorithm is a function `train(Training)`. Rows of the log have the same names whatever the algorithm:

    step, reward, reward_std, reward_NAME (a term's mean, before it is weighed), tokens (mean length of responses),
    finished (share that ended by itself), repetition (4-grams of words), entropy (nats), grad_norm, loss, clipped
    (share of tokens at the clip)

and those of a look, every `guards.every` steps, on prompts of its own: look_reward, look_tokens, look_length_ratio,
look_repetition, look_kl, and look_quality where a truth is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from reward_distiller.config import RLConfig
from reward_distiller.model.training_log import TrainingLog
from reward_distiller.records import Prompt
from reward_distiller.rl.policy import Policy, Sampled
from reward_distiller.rl.reward import PolicyView, Reward, Scored
from reward_distiller.rl.terms import Sample, repetition

Looked = Callable[[int], Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """A prompt to train on, its opening as tokens, and the other columns of its row."""

    prompt: Prompt
    opening: tuple[int, ...]
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Training:
    """`look(step)` gives figures of the policy as it is, or raises GuardBreached; `key` is a hash of all inputs."""

    config: RLConfig
    policy: Policy
    tasks: Sequence[Task]
    reward: Reward
    folder: Path
    key: str
    log: TrainingLog
    look: Looked

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def looks_at(self, step: int) -> bool:
        return step % self.config.guards.every == 0 or step == self.config.optimization.steps

    def score(self, tasks: Sequence[Task], sampled: Sequence[Sampled]) -> tuple[Scored, dict[str, float]]:
        """Rewards of responses just sampled, those of one prompt side by side, and the figures of a log's row."""
        samples = samples_of(tasks, sampled)
        view = PolicyView(
            context=lambda: self.policy.context([task.opening for task in tasks]),
            log_p_per_token=lambda: [float(p.mean()) for p in self.policy.log_probabilities(sampled)],
        )
        scored = self.reward(samples, view)
        return scored, rollout_figures(samples, scored)


def samples_of(tasks: Sequence[Task], sampled: Sequence[Sampled]) -> list[Sample]:
    return [
        Sample(tuple(task.prompt.as_dicts()), each.text, len(each.ids), each.finished, task.row)
        for task, each in zip(tasks, sampled, strict=True)
    ]


def rollout_figures(samples: Sequence[Sample], scored: Scored) -> dict[str, float]:
    return {
        "reward": fmean(scored.total),
        "reward_std": pstdev(scored.total),
        **{f"reward_{name}": fmean(values) for name, values in scored.terms.items()},
        "tokens": fmean(s.tokens for s in samples),
        "finished": fmean(s.finished for s in samples),
        "repetition": fmean(repetition(s.response) for s in samples),
    }


def seed_of(*parts: Any) -> int:
    """A seed for torch that follows from what it is for, so that no generator's state has to be kept."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:7], "big")
