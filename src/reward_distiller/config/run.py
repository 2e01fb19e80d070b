"""A whole config: one run, or a comparison of runs; and how scores are asked for in it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from reward_distiller.config.base import Section
from reward_distiller.config.data import DataSource, World
from reward_distiller.config.methods import BCE, Cloud, Critiques, EditAligned, Refined, RMBoost, RMDistiller, SteerLM
from reward_distiller.config.models import Caps, ChatModel
from reward_distiller.config.training import Evaluation, Student, Training
from reward_distiller.config.whole_run import WholeRun

ScoreMode = Literal["sampled", "expected", "mean_of_n"]  # how a teacher's score came about
Pairing = Literal["drawn", "nearest"]  # which pairs of labeled responses to a prompt are taken


class Annotation(Section):
    """How pairs are made and judged (paper, section 3.1)."""

    templates: str | None = Field(None, description="folder whose .jinja files replace the packaged prompts")
    scores: ScoreMode = Field(
        "sampled", description="expected: weighted by the probabilities that the endpoint returns"
    )
    samples: int = Field(1, ge=1, description="asked for each score with scores: mean_of_n")
    both_orders: bool = Field(False, description="show two responses in both orders, and take the means")
    flipped: Literal["tie", "mean"] = Field("tie", description="what becomes of pairs whose verdict the order changes")
    allowed_failures: float = Field(0.0, ge=0, le=1, description="share of a step's calls that may fail for good")

    @model_validator(mode="after")
    def _several(self) -> Annotation:
        if (self.scores == "mean_of_n") != (self.samples > 1):
            raise ValueError("samples above 1 and scores: mean_of_n go together")
        return self


class Report(Section):
    """What is computed for the report alone; nothing else of the run depends on it."""

    pairs: int = Field(20000, ge=0, description="pairs in the report's browser, scored by the trained model; 0: none")
    token_values: int = Field(500, ge=0, description="of these, with the reward head's values token by token")


class Config(WholeRun):
    """One run of recipe `reward_model`."""

    recipe: Literal["reward_model"] = Field("reward_model", description="what kind of run this is")
    method: str = Field("rm_distiller", description="how is distilled: one of docs/methods.md")
    seed: int = Field(0, description="of all draws: what is drawn, in which order is trained")
    output: str = Field(min_length=1, description="run folder")
    ledger: str | None = Field(None, description="SQLite file of all calls; default: ledger.sqlite in the run folder")
    store: str | None = Field(None, description="folder of the runs of made_by, may be shared; default: in the output")
    scenario: Literal["unlabeled", "labeled", "responses"] = Field(
        "unlabeled", description="what there is to begin with: prompts, pairs, or responses with rewards"
    )
    prompts: DataSource | None = Field(None, description="unlabeled scenario: rows with `prompt`")
    pairs: DataSource | None = Field(None, description="labeled scenario: rows with `prompt`, `chosen`, `rejected`")
    responses: list[DataSource] = Field(
        [], description="scenario responses: rows with `prompt`, `response` and `reward` from 0 to 1"
    )
    pairs_per_prompt: int = Field(8, ge=1, description="scenario responses: pairs of different rewards")
    min_margin: float = Field(0.0, ge=0, le=1, description="by which the rewards of a pair differ at least")
    pairing: Pairing = Field("drawn", description="which of them: drawn, or those that differ in the fewest words")
    candidates: list[ChatModel] = Field([], description="unlabeled scenario: who writes the responses that are drawn")
    teacher: ChatModel | None = Field(None, description="unset: recorded; scores and responses are read from the rows")
    annotation: Annotation = Annotation()
    budget: Caps = Caps()
    bce: BCE = BCE()
    steerlm: SteerLM = SteerLM()
    synrm: Critiques = Critiques()
    cloud: Cloud = Cloud()
    rmboost: RMBoost = RMBoost()
    rm_distiller: RMDistiller = RMDistiller()
    edit_aligned: EditAligned = EditAligned()
    student: Student
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    report: Report = Report()
    testbed: World = World()

    @model_validator(mode="before")
    @classmethod
    def _rate_of_random_weights(cls, data: Any) -> Any:
        student, training = (data.get(k) if isinstance(data, dict) else None for k in ("student", "training"))
        if isinstance(student, dict) and student.get("from_scratch") and isinstance(training or {}, dict):
            return {**data, "training": {"learning_rate": 1e-3, **(training or {})}}
        return data

    @model_validator(mode="after")
    def _whole(self) -> Config:
        if self.scenario == "unlabeled":
            if self.prompts is None or self.pairs is not None:
                raise ValueError("scenario unlabeled takes `prompts`, not `pairs`")
            if any(a.asks_like(b) for a, b in itertools.combinations(self.candidates, 2)):
                raise ValueError("two `candidates` would send the same requests. Give each a model name of its own")
            if self.teacher is None:
                raise ValueError("scenario unlabeled needs a `teacher`")
        elif self.scenario == "responses":
            if not self.responses or any((self.prompts, self.pairs, self.candidates, self.teacher)):
                raise ValueError("scenario responses takes `responses`, and no prompts, pairs, candidates or teacher")
        elif self.pairs is None or self.prompts is not None or self.candidates:
            raise ValueError("scenario labeled takes `pairs`, and neither `prompts` nor `candidates`")
        if self.responses and self.scenario != "responses":
            raise ValueError("`responses` goes with scenario: responses")
        if isinstance(own := self.of_method, Refined) and own.reference_fields and self.teacher is None:
            raise ValueError(f"{self.method}.kl_top_logprobs needs a `teacher` that is asked for its own responses")
        return self

    @property
    def title(self) -> str:
        return self.method

    @property
    def computing(self) -> list[tuple[int | None, str | None]]:
        return [(self.training.threads, self.training.device)]

    @property
    def chat_models(self) -> list[ChatModel]:
        """All that construction asks: candidates, and the teacher where there is one."""
        return [*self.candidates, *([self.teacher] if self.teacher else [])]

    @property
    def of_method(self) -> Section | None:
        """The section that has the method's name, and that no other method reads; None where it has none."""
        section = getattr(self, self.method, None)
        return section if isinstance(section, Section) else None

    @property
    def ledger_path(self) -> Path:
        return Path(self.ledger) if self.ledger else Path(self.output) / "ledger.sqlite"


class Comparison(Section):
    """One run's config in several arms and seeds, in one table: `reward-distiller compare`."""

    recipe: Literal["compare"] = Field("compare", description="what kind of run this is")
    output: str = Field(min_length=1, description="folder of results.json, table.md and plot.svg")
    store: str | None = Field(None, description="folder of finished runs, may be shared; default: store in the output")
    base: str | dict[str, Any] = Field(description="a run's config: a file, relative to this one, or written here")
    changes: list[str] = Field([], description="key.sub=value: changes to the base, in all arms")
    seeds: list[int] = Field([0], min_length=1, description="each arm is run with each of them")
    processes: int | None = Field(None, ge=1, description="runs side by side; unset: CPU cores / training.threads")
    arms: dict[str, list[str]] = Field(
        min_length=1, description="name -> list of key.sub=value; the first is what the others are compared with"
    )
    pairs: dict[str, str] = Field({}, description="arm -> another arm that it is compared with as well, seed by seed")
    columns: list[str] | None = Field(None, description="group.metric; unset: held_out.accuracy and all of testbed")
    compare_on: str | None = Field(None, description="unset: testbed.average where it is there, or held_out.accuracy")

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands there twice; the same run counts once")
        return seeds

    @field_validator("arms")
    @classmethod
    def _names(cls, arms: dict[str, list[str]]) -> dict[str, list[str]]:
        for name in arms:
            if not name.strip() or not name.isprintable():
                raise ValueError(f"{name!r} is no name for an arm. Write a line of text")
        return arms

    @model_validator(mode="after")
    def _pairs_are_arms(self) -> Comparison:
        for name in (*self.pairs, *self.pairs.values()):
            if name not in self.arms:
                raise ValueError(f"pairs: there is no arm {name!r}")
        return self

    @property
    def store_path(self) -> Path:
        return Path(self.store) if self.store else Path(self.output) / "store"
