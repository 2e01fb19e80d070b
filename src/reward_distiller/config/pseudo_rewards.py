"""The config of recipe `pseudo_rewards`: responses are sampled, and labeled by a majority vote or by a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from reward_distiller.config.base import Section
from reward_distiller.config.data import DataSource, World
from reward_distiller.config.models import Caps, ChatModel
from reward_distiller.config.policy import Policy
from reward_distiller.config.run import Annotation
from reward_distiller.config.whole_run import WholeRun

CONSENSUS = "consensus"  # the field of a prompt's row that holds what a vote has found


class Answers(Section):
    """How the final answer of a response to a verifiable prompt is found, and when two are the same."""

    format: Literal["number", "choice", "pattern", "testbed"] = Field("number", description="see docs/answers.md")
    options: int = Field(10, ge=2, le=26, description="choice: letters from A on")
    pattern: str | None = Field(None, description="pattern: regular expression whose group is the answer")

    @model_validator(mode="after")
    def _pattern(self) -> Answers:
        if (self.format == "pattern") != (self.pattern is not None):
            raise ValueError("format: pattern and a pattern go together")
        return self


class Labels(Section):
    """What a response's pseudo-reward is, from 0 to 1.

    Of a verifiable prompt: 1 where its final answer is the prompt's consensus, else 0. Of an open-ended one, which its
    row says (`open_ended: true`): the judge's score from 1 to 10, brought to 0..1.
    """

    answers: Answers = Answers()
    consensus: Literal["vote", "given"] = Field(
        "vote", description="vote: the majority of these very samples; given: as a field of the row says"
    )
    field: str = Field(CONSENSUS, description="consensus: given: the field")
    min_consensus: float = Field(0.0, ge=0, le=1, description="share of all samples that a majority has at least")
    judge: ChatModel | None = Field(None, description="who scores responses to open-ended prompts")
    judges_all: bool = Field(False, description="let the judge score responses to verifiable prompts, too")

    @model_validator(mode="after")
    def _judge(self) -> Labels:
        if self.judges_all and self.judge is None:
            raise ValueError("judges_all needs a `judge`")
        return self


class Demonstrations(Section):
    """Which responses are written to demonstrations.jsonl, to imitate."""

    min_reward: float = Field(0.75, ge=0, le=1, description="pseudo-reward that one has at least")
    per_prompt: int | None = Field(None, ge=1, description="the best so many, distinct; unset: all")


class PseudoRewards(WholeRun):
    """One run of recipe `pseudo_rewards`."""

    recipe: Literal["pseudo_rewards"] = Field(description="what kind of run this is")
    seed: int = Field(0, description="of all draws")
    output: str = Field(min_length=1, description="run folder")
    ledger: str | None = Field(None, description="SQLite file of all calls; default: ledger.sqlite in the run folder")
    store: str | None = Field(None, description="folder of the runs of made_by, may be shared; default: in the output")
    prompts: DataSource = Field(
        description="rows with `prompt`, with `open_ended: true` where no answer can be checked"
    )
    teacher: ChatModel | None = Field(None, description="who is sampled: a chat model, or")
    policy: Policy | None = Field(None, description="a policy, in this process")
    samples: int = Field(10, ge=1, description="responses to each prompt")
    temperatures: list[float] = Field([1.0], min_length=1, description="taken in turn from sample to sample")
    max_prompt_length: int = Field(1024, ge=1, description="of a policy: tokens; longer prompts are dropped, counted")
    max_response_length: int = Field(4096, ge=1, description="of a policy: tokens, the end token included")
    labels: Labels = Labels()
    demonstrations: Demonstrations = Demonstrations()
    audit: str | None = Field(None, description="field of the true answer, for figures about the labels, not for them")
    annotation: Annotation = Annotation()
    budget: Caps = Caps()
    threads: int | None = Field(None, ge=1, description="CPU threads; the same number gives the same bits")
    device: str | None = Field(None, description="of a policy: cpu, cuda, cuda:1, mps; found out if unset")
    testbed: World = World()

    @model_validator(mode="after")
    def _whole(self) -> PseudoRewards:
        if (self.teacher is None) == (self.policy is None):
            raise ValueError("name exactly one of teacher and policy")
        if any(not 0 <= t <= 2 for t in self.temperatures) or (self.policy and not all(self.temperatures)):
            raise ValueError("temperatures are from 0 to 2, and a policy's above 0")
        if self.annotation.both_orders:
            raise ValueError("annotation.both_orders: the judge sees one response at a time")
        return self

    @property
    def title(self) -> str:
        return f"responses of {self.teacher.model if self.teacher else 'the policy'}"

    @property
    def computing(self) -> list[tuple[int | None, str | None]]:
        return [(self.threads, self.device)] if self.policy else []

    @property
    def ledger_path(self) -> Path:
        return Path(self.ledger) if self.ledger else Path(self.output) / "ledger.sqlite"

    @property
    def chat_models(self) -> list[ChatModel]:
        """All that are asked: the teacher, and the judge."""
        return [model for model in (self.teacher, self.labels.judge) if model is not None]
