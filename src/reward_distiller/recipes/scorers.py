"""What `evaluate` can be given as SCORER: a reward model, a reward server, a trivial baseline, a generative judge.

Knows how each is named and opened; the judges' prompts are `teacher/judging.py`'s, the server's formats
`reward_endpoint.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reward_distiller.errors import ConfigError, ModelError
from reward_distiller.evaluate.answers import Answer, NoAnswer, Rewards, Scorer
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.trivial import Length, Random
from reward_distiller.files import fingerprint
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.recipes.judges import JudgeSettings, judge_scorer
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_endpoint import RewardEndpoint

BASELINES: dict[str, Callable[[], Scorer]] = {"length": Length, "random": Random}


@dataclass(frozen=True)
class ScorerSettings:
    """What a scorer may need beside its name."""

    ledger: Path
    judge: JudgeSettings
    max_length: int | None = None
    device: str | None = None
    chat_template: str | None = None
    trust_remote_code: bool = False
    token_env: str | None = None


@contextmanager
def open_scorer(name: str, settings: ScorerSettings, parts: Parts) -> Iterator[Scorer]:
    """The scorer of a name; raises ConfigError, ModelError or EndpointError where there is none."""
    kind, _, rest = name.partition(":")
    if kind == "baseline":
        if rest not in BASELINES:
            raise ConfigError(f"{name}: there is no such baseline. Use baseline:{' or baseline:'.join(BASELINES)}")
        yield BASELINES[rest]()
    elif kind == "judge":
        with judge_scorer(rest, settings.judge, settings.ledger, parts) as judge:
            yield judge
    elif kind in ("http", "https"):
        with RewardEndpoint(name, settings.token_env) as endpoint:
            yield endpoint
    else:
        yield ModelScorer(name, settings)


class ModelScorer:
    """A checkpoint, ours or not. What is longer than it can read has no answer; nothing is cut."""

    def __init__(self, path: str, settings: ScorerSettings):
        self.path, self.settings = path, settings
        self.model = RewardModel.from_pretrained(
            path,
            device=settings.device,
            max_length=settings.max_length,
            chat_template=settings.chat_template,
            trust_remote_code=settings.trust_remote_code,
        )

    @cached_property
    def identity(self) -> dict[str, Any]:
        template = self.settings.chat_template
        return {
            "model": fingerprint(self.path),
            "max_length": self.model.max_length,
            "chat_template": fingerprint(template) if template else None,
        }

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        fits = [self.model.fits(e.prompt.as_dicts(), e.responses) for e in examples]
        rows = [(e.prompt.as_dicts(), e.responses) for e, fit in zip(examples, fits, strict=True) if fit]
        rewards = iter(self.model.score_rows(rows, advance))
        answers: list[Answer] = []
        for example, fit in zip(examples, fits, strict=True):
            if fit:
                values = next(rewards)
                if not all(map(math.isfinite, values)):
                    raise ModelError(f"{self.path} gives example {example.id} the rewards {values}: train it again")
                answers.append(Rewards(tuple(values)))
                continue
            answers.append(NoAnswer(f"longer than max_length={self.model.max_length}"))
            for _ in example.responses:
                advance()
        return answers
