"""What `evaluate` can be given as SCORER: a reward model, a reward server, a trivial baseline, a generative judge.

Knows how each is named and opened; the judges' prompts are `teacher/judging.py`'s, the server's formats
`reward_endpoint.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from reward_distiller.recipes.critics import TeacherCritic
from reward_distiller.recipes.judges import JudgeSettings, judge_scorer
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_endpoint import RewardEndpoint

Row = tuple[list[dict[str, str]], Sequence[str]]  # messages and responses
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
    critic: AbstractContextManager[TeacherCritic] | None = None


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
        with settings.critic or nullcontext() as critic:
            model = RewardModel.from_pretrained(
                name,
                device=settings.device,
                max_length=settings.max_length,
                chat_template=settings.chat_template,
                trust_remote_code=settings.trust_remote_code,
                critic=critic,
            )
            yield ModelScorer(model, name, settings.chat_template)


class ModelScorer:
    """A checkpoint, ours or not. What is longer than it can read has no answer; nothing is cut.

    Critiques that it reads come from its critic, and what they make too long has no answer either.
    """

    def __init__(self, model: RewardModel, path: str, chat_template: str | None = None):
        self.model, self.path, self.chat_template = model, path, chat_template

    @cached_property
    def identity(self) -> dict[str, Any]:
        critic = self.model.critic
        return {
            "model": fingerprint(self.path),
            "max_length": self.model.max_length,
            "chat_template": fingerprint(self.chat_template) if self.chat_template else None,
            "critic": critic.identity if isinstance(critic, TeacherCritic) else None,
        }

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        rows: list[Row] = [(e.prompt.as_dicts(), e.responses) for e in examples]
        short = [at for at, row in enumerate(rows) if self.model.fits(*row)]
        critiques = dict(zip(short, self.model.critiques([rows[at] for at in short]) or ()))
        if critiques:
            short = [at for at in short if self.model.fits(*rows[at], critiques[at])]
        read = [critiques[at] for at in short] if critiques else None
        rewards = dict(zip(short, self.model.score_rows([rows[at] for at in short], advance, read), strict=True))
        for at, (_, responses) in enumerate(rows):
            for _ in responses if at not in rewards else ():
                advance()
        return [self._answer(example, rewards.get(at)) for at, example in enumerate(examples)]

    def cost(self) -> list[dict[str, Any]]:
        """Of the critiques that were asked for now."""
        critic = self.model.critic
        return critic.cost() if isinstance(critic, TeacherCritic) else []

    def _answer(self, example: Example, values: list[float] | None) -> Answer:
        if values is None:
            return NoAnswer(f"longer than max_length={self.model.max_length}")
        if not all(map(math.isfinite, values)):
            raise ModelError(f"{self.path} gives example {example.id} the rewards {values}. Train it again")
        return Rewards(tuple(values))
