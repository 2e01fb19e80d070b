"""A generative judge as a scorer: a chat model asked through the ledger, two responses at a time or one by one.

Two responses are shown in both orders, or in one that is drawn, so that the right one stands first half of the time. An
unusable answer is no verdict: the other order's stands alone, and an example has no answer where a comparison or a
response has no verdict at all. Knows no benchmarks; the formats are `teacher/judging.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.config import ChatModel, Sampling
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.answers import Answer, Comparisons, NoAnswer, Rewards
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import content_id
from reward_distiller.teacher.endpoint import build_request, check_environment
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.judging import JudgeFormat, format_named
from reward_distiller.teacher.ledger_report import bought
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer as Verdict

STEP = "evaluate: judge"
REASONED_TOKENS = 4096  # of an answer with reasoning in it: a page or two, where a bare verdict is a word
Shown = tuple[int, ...]  # the responses of an example that a judge sees at once, in their order


@dataclass(frozen=True)
class JudgeSettings:
    """How a judge is asked. `endpoint` holds further fields of its ChatModel: api_key_env, sampling, concurrency."""

    format: str = "pairwise_scores"
    reasoning: bool = False
    both_orders: bool = True
    templates: str | None = None
    endpoint: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Judge:
    """`quarantine` holds the raw answers that could not be used, as a Balance does."""

    model: ChatModel
    engine: Engine
    templates: Templates
    settings: JudgeSettings = JudgeSettings()
    quarantine: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.format: JudgeFormat = format_named(self.settings.format, self.settings.reasoning)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides a request and what becomes of its answer. Not where it is sent: a server may move."""
        request = build_request(self.model, [], 0)
        orders = ("both" if self.settings.both_orders else "drawn") if self.format.pairwise else None
        return {
            "judge": {name: value for name, value in request.items() if name not in ("messages", "sample")},
            "format": self.settings.format,
            "reasoning": self.settings.reasoning,
            "orders": orders,
            "template": content_id(self.templates.source(self.format.template)),
            "max_asks": self.model.max_asks,
        }

    def cost(self) -> list[dict[str, Any]]:
        """Of all judgements in the ledger: answers that an earlier run has kept were paid for too."""
        return bought(self.engine.ledger, self.model, STEP)

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        """Raises CallsFailed where the server gave up on a question that it may answer another time."""
        asked = [self._asked(example) for example in examples]
        questions = [
            self.format.question(
                _identity(example, shown),
                example.prompt,
                [example.responses[at] for at in shown],
                self.templates,
                self.settings.reasoning,
            )
            for example, groups in zip(examples, asked, strict=True)
            for group in groups
            for shown in group
        ]
        balance = Balance(STEP, "questions", 0)
        outcomes = self.engine.ask_counted(self.model, STEP, questions, balance)
        self.quarantine += balance.check().quarantine
        answers: list[Answer] = []
        for example, groups in zip(examples, asked, strict=True):
            answers.append(self._answer(groups, {s: outcomes[_identity(example, s)] for g in groups for s in g}))
            for _ in example.responses:
                advance()
        return answers

    def _asked(self, example: Example) -> list[list[Shown]]:
        """What is shown, in groups of which one verdict at least must come: a comparison's orders, or a response."""
        if not self.format.pairwise:
            return [[(at,)] for at in range(len(example.responses))]
        if self.settings.both_orders:
            return [[(i, j), (j, i)] for i, j in example.comparisons]
        return [[_drawn(example, i, j)] for i, j in example.comparisons]

    def _answer(
        self, groups: Sequence[Sequence[Shown]], outcomes: Mapping[Shown, Verdict[float] | Quarantined | Failed]
    ) -> Answer:
        verdicts = {shown: o.value for shown, o in outcomes.items() if isinstance(o, Verdict)}
        for group in groups:
            if not any(shown in verdicts for shown in group):
                first = outcomes[group[0]]
                return NoAnswer("" if isinstance(first, Verdict) else first.summary)
        if not self.format.pairwise:
            return Rewards(tuple(verdicts.values()))
        return Comparisons(tuple((i, j, margin) for (i, j), margin in verdicts.items()))


@contextmanager
def judge_scorer(spec: str, settings: JudgeSettings, ledger: Path, parts: Parts) -> Iterator[Judge]:
    """The judge that "MODEL@URL" names, asked through a ledger; URL as `base_url` of a config, or testbed.

    Raises ConfigError for what is no such name, setting or URL, before any call is made.
    """
    format_named(settings.format, settings.reasoning)
    model = chat_model_of(spec, settings)
    check_environment(model)
    templates = Templates(settings.templates)
    with open_engine(ledger, parts.transports) as engine:
        yield Judge(parts.chat_model(model), engine, templates, settings)


def chat_model_of(spec: str, settings: JudgeSettings) -> ChatModel:
    """The model that "MODEL@URL" and the settings name. Raises ConfigError for what is no such name or setting."""
    name, at, url = spec.rpartition("@")
    if not (name and at):
        raise ConfigError(f"judge {spec!r}: write MODEL@URL, for example my/model@http://localhost:8000/v1")
    writes_more = settings.reasoning or settings.format == "judgelrm"
    sampling = Sampling(max_tokens=REASONED_TOKENS) if writes_more else Sampling()
    try:
        return ChatModel.model_validate({"sampling": sampling, **settings.endpoint, "model": name, "base_url": url})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"judge MODEL@URL: {place}: {first['msg']} (got {first.get('input')!r:.80})") from error


def _identity(example: Example, shown: Shown) -> str:
    return ":".join([example.id, *map(str, shown)])


def _drawn(example: Example, i: int, j: int) -> Shown:
    """One of both orders, by the texts alone, so that it says nothing of which response is right."""
    first, second = sorted((i, j), key=lambda at: example.responses[at])
    digest = content_id([example.prompt.id, example.responses[first], example.responses[second]])
    return (first, second) if int(digest, 16) % 2 else (second, first)
