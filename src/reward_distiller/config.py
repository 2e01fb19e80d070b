"""The one YAML schema. Every field says what it means; unknown keys and wrong types are errors.

Knows names and numbers only: whether a model loads or an endpoint answers is found out by who uses it.
Keys never stand here, only the names of the environment variables that hold them.
"""

from __future__ import annotations

import copy
import difflib
import itertools
import os
import re
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from reward_distiller.errors import ConfigError
from reward_distiller.records import canonical_json
from reward_distiller.yaml_text import apply_override, parse_yaml, write_yaml


def fill_data_folder(path: str) -> str:
    """A path with $REWARD_DISTILLER_DATA (default ../shared/data) filled in."""
    return path.replace("$REWARD_DISTILLER_DATA", os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Sampling(Section):
    """Sampling parameters as sent. None is not sent: the server's default holds."""

    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, description="vLLM, SGLang; not part of OpenAI's own API")
    min_p: float | None = Field(None, ge=0, le=1, description="vLLM, SGLang; not part of OpenAI's own API")
    max_tokens: int = Field(1024, ge=1)


class Price(Section):
    """Money per million tokens, for the cost shown in reports."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Endpoint(Section):
    """Where a model is served, and how its server is spoken to."""

    base_url: str = Field("https://api.openai.com/v1", description="up to and without /chat/completions; or testbed")
    api_key_env: str | None = Field(None, description="environment variable that holds the key; none is sent if unset")
    headers: dict[str, str] = Field({}, description="extra headers as they are; never put a secret here")
    headers_env: dict[str, str] = Field({}, description="extra headers: name -> environment variable with the value")
    query: dict[str, str] = Field({}, description="of the URL; Azure wants api-version")
    proxy: str | None = None
    concurrency: int = Field(16, ge=1, le=4096, description="requests in flight at most; found out from there on down")

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            known = value == "testbed" or (parts.scheme in ("http", "https") and bool(parts.hostname))
        except ValueError:
            known = False
        if not known:
            raise ValueError("not a URL: write http://HOST:PORT/v1, or testbed")
        return value


class BatchMode(Section):
    """Calls handed over in files, and answered within a day at a part of the price (OpenAI's batch API)."""

    price_factor: float = Field(0.5, gt=0, le=1, description="what is billed of the price")
    max_requests: int = Field(50_000, ge=1, description="calls in one batch; OpenAI takes 50,000")
    max_bytes: int = Field(190_000_000, ge=1000, description="of one file; OpenAI takes 200 MB")
    poll: float = Field(60.0, gt=0, description="seconds between two looks at it")
    wait: bool = Field(True, description="else the run ends with exit code 13 until what it handed over is answered")


class ChatModel(Endpoint):
    """A chat model at any OpenAI-compatible server, or `base_url: testbed` for the scripted models in process."""

    model: str = Field(min_length=1, description="the model's name as the server knows it")
    endpoints: list[Endpoint] = Field([], description="further servers of the same model, which share the calls")
    launch: Literal["vllm"] | None = Field(None, description="start a server of `model` here, and end it with the run")
    launch_command: list[str] = Field(["vllm", "serve"], min_length=1, description="the program, in any environment")
    launch_args: list[str] = Field([], description="further arguments, such as --max-model-len 8192")
    launch_timeout: float = Field(1800.0, gt=0, description="seconds until it is healthy; a large model loads for long")
    sampling: Sampling = Sampling()
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    chat_template_kwargs: dict[str, Any] = Field({}, description="for example enable_thinking: false")
    extra_body: dict[str, Any] = Field({}, description="further fields of the request's body")
    timeout: float = Field(300.0, gt=0, description="seconds for one request")
    retries: int = Field(6, ge=0, description="further attempts after 408, 409, 5xx, time-outs and broken connections")
    structured: bool = Field(False, description="scores and edits as JSON by a schema; the server must hold it to that")
    max_asks: int = Field(3, ge=1, description="samples bought in all when an answer cannot be parsed")
    price: Price | None = None
    batch: BatchMode | None = Field(None, description="through the batch API of the server, slowly and cheaply")

    @field_validator("extra_body")
    @classmethod
    def _not_ours(cls, body: dict[str, Any]) -> dict[str, Any]:
        ours = sorted({"model", "messages", "sample"} & set(body))
        if ours:
            raise ValueError(f"{', '.join(ours)} cannot be set here")
        return body

    @field_validator("extra_body", "chat_template_kwargs")
    @classmethod
    def _json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            canonical_json(value)
        except TypeError as error:
            raise ValueError(f"cannot be sent as JSON ({error})") from error
        return value

    @model_validator(mode="after")
    def _one_way(self) -> ChatModel:
        if self.launch and (self.base_url != Endpoint.model_fields["base_url"].default or self.endpoints):
            raise ValueError("launch starts a server of its own: leave out base_url and endpoints")
        if self.is_testbed and self.endpoints:
            raise ValueError("the testbed has no further endpoints")
        if self.batch and (self.launch or self.endpoints or self.is_testbed):
            raise ValueError("batch goes through one server at a URL: leave out launch, endpoints and the testbed")
        return self

    def asks_like(self, other: ChatModel) -> bool:
        """Whether both would send the same requests, so that the ledger could not tell their answers apart."""
        asked = ("model", "sampling", "chat_template_kwargs", "extra_body", "max_tokens_field")
        return all(getattr(self, name) == getattr(other, name) for name in asked)

    @property
    def is_testbed(self) -> bool:
        return self.base_url == "testbed"

    @property
    def places(self) -> dict[str, ChatModel]:
        """The model at each of its endpoints, by a name to tell them apart: the URL, or what is launched."""
        fields = [{name: getattr(e, name) for name in Endpoint.model_fields} for e in self.endpoints]
        alone = self.model_copy(update={"endpoints": []})
        every = [alone, *(alone.model_copy(update=update) for update in fields)]
        return {self.launch or f"{place.base_url}{'' if not n else f' ({n})'}": place for n, place in enumerate(every)}


TaskName = Literal["facts", "repeat", "reverse", "choose"]  # of the testbed's prompts


class TestbedData(Section):
    """Prompts or pairs of the testbed's own world."""

    split: Literal["train", "test"] = "train"
    count: int = Field(ge=1)
    tasks: list[TaskName] = Field(list(get_args(TaskName)), min_length=1, description="what the prompts ask for")


class DataSource(Section):
    """Rows from a local file (`path`), a Hub data set (`hub`) or the testbed (`testbed`): name exactly one."""

    path: str | None = Field(None, description=".jsonl, .json or .parquet; $REWARD_DISTILLER_DATA is filled in")
    hub: str | None = Field(None, description="data set id; needs the extra `hub`")
    subset: str | None = None
    split: str = "train"
    testbed: TestbedData | None = None
    columns: dict[str, str] = Field({}, description="our field -> their column; dots reach into objects and lists")
    shuffle: bool = Field(False, description="take rows in an order drawn by the seed")
    limit: int | None = Field(None, ge=1, description="so many rows at most")

    @model_validator(mode="after")
    def _one_source(self) -> DataSource:
        if sum(x is not None for x in (self.path, self.hub, self.testbed)) != 1:
            raise ValueError("name exactly one of path, hub and testbed")
        return self

    @property
    def file(self) -> Path:
        """`path` with $REWARD_DISTILLER_DATA (default ../shared/data) filled in."""
        return Path(fill_data_folder(self.path or ""))


ScoreMode = Literal["sampled", "expected", "mean_of_n"]  # how a teacher's score came about


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


KL_SOURCES = ("kl_teacher", "kl_store", "kl_top_logprobs")


class Refined(Section):
    """Refined pairs and generative regularization (paper, sections 3.2 to 3.4)."""

    scoring: Literal["self_calibrated", "pairwise"] = "self_calibrated"
    tau_e: int = Field(0, ge=0, description="refined pairs need an edit distance above this (characters)")
    tau_s: float = Field(3.0, ge=0, description="refined pairs need a margin above this (points)")
    alpha: float = Field(0.2, ge=0, le=1, description="weight of the NLL of teacher responses")
    beta: float = Field(0.2, ge=0, le=1, description="weight of KL(teacher || student); 0 if there is no kl_teacher")
    kl_teacher: str | None = Field(None, description="folder or Hub id of a local LM of the student's vocabulary")
    kl_store: str | None = Field(None, description="file of the teacher's top-k log-probabilities, instead of its LM")
    kl_top_logprobs: int | None = Field(
        None, ge=1, description="instead of both: so many are asked for with the teacher's own responses"
    )
    kl_token_ids: bool = Field(False, description="as token ids, which vLLM gives; else their texts must tell them")

    @model_validator(mode="before")
    @classmethod
    def _no_teacher_no_kl(cls, data: Any) -> Any:
        if isinstance(data, dict) and "beta" not in data and not any(data.get(source) for source in KL_SOURCES):
            return {**data, "beta": 0.0}
        return data

    @model_validator(mode="after")
    def _weights(self) -> Refined:
        if self.alpha + self.beta >= 1:
            raise ValueError("alpha + beta must stay below 1: the margin loss weighs 1 - alpha - beta")
        named = [source for source in KL_SOURCES if getattr(self, source) is not None]
        if len(named) > 1:
            raise ValueError(f"name {' or '.join(named)}, not both")
        if self.beta > 0 and not named:
            raise ValueError("beta > 0 needs kl_teacher, a local LM of the student's vocabulary; or set beta: 0")
        return self

    @property
    def reference_fields(self) -> dict[str, Any]:
        """What the requests for the teacher's own responses hold beside their messages."""
        if self.kl_top_logprobs is None or not self.beta:
            return {}
        ids = {"return_tokens_as_token_ids": True} if self.kl_token_ids else {}
        return {"logprobs": True, "top_logprobs": self.kl_top_logprobs, **ids}


class RMDistiller(Refined):
    """Each part can be taken away, for an ablation."""

    loss: Literal["margin_regression", "margin_bradley_terry", "lsam", "bradley_terry"] = Field(
        "margin_regression", description="of pairs; anything but margin_regression is an ablation"
    )
    refine: bool = Field(True, description="Contrastive Refinement")


class EditAligned(Refined):
    """RM-Distiller's settings, and what is compared beside the ends of pairs."""

    tau_s: float = Field(0.0, ge=0, description="refined pairs need a margin above this (points)")
    alpha: float = Field(0.9, ge=0, le=1, description="weight of the NLL, a nat or so beside margins of many points²")
    aligned_weight: float = Field(0.5, ge=0, lt=1, description="of the places along the edits in a refined pair's loss")
    annotated_weight: float = Field(0.3, gt=0, description="of a sampled or labeled pair; a refined one weighs 1")


class SteerLM(Section):
    """Attributes that the head predicts (equation 7). `overall` is the annotation's own score and costs no call."""

    attributes: dict[str, float] = Field({"overall": 1.0}, description="attribute -> its weight in the reward")

    @field_validator("attributes")
    @classmethod
    def _named(cls, attributes: dict[str, float]) -> dict[str, float]:
        if not 1 <= len(attributes) <= 16 or not any(attributes.values()):
            raise ValueError("name 1 to 16 attributes, one of them at least with a weight that is not 0")
        for name in attributes:
            if not re.fullmatch(r"[a-z][a-z_]{0,39}", name):
                raise ValueError(f"{name!r} is no attribute: use lower-case letters and '_'")
        return attributes


class Critiques(Section):
    """Critiques that stand between a response and its reward. They follow `request` as a turn of their own."""

    request: str = Field("Critique your last reply.", min_length=1, description="the user's turn that asks for one")


class Cloud(Critiques):
    """Critique-out-loud: the reward model writes its critique itself."""

    max_tokens: int = Field(128, ge=1, description="of a critique that the reward model writes")
    sft_epochs: int = Field(1, ge=1, description="passes over the teacher's critiques, before the reward head")
    sft_learning_rate: float | None = Field(None, gt=0, description="unset: that of the training")
    lm_weight: float = Field(1.0, ge=0, description="weight of the NLL of critiques beside the pair loss")


class RMBoost(Section):
    """Rewriting of the teacher's own responses."""

    aspects: list[str] = Field(
        ["honesty", "truthfulness", "helpfulness", "relevance", "correctness", "completeness", "safety"], min_length=1
    )
    aspects_per_pair: int = Field(2, ge=1, description="drawn for each rewriting")
    better: float = Field(0.5, ge=0, le=1, description="share of rewritings that should be better; the rest is worse")

    @model_validator(mode="after")
    def _enough(self) -> RMBoost:
        if len(set(self.aspects)) < len(self.aspects) or not all(a.strip() for a in self.aspects):
            raise ValueError("an aspect stands there twice, or is empty")
        if self.aspects_per_pair > len(self.aspects):
            raise ValueError("aspects_per_pair is more than there are aspects")
        return self


class Scratch(Section):
    """A tiny Qwen2 student with random weights, for machines where nothing can be downloaded."""

    tokenizer: str = Field(description="folder with a tokenizer's files; $REWARD_DISTILLER_DATA is filled in")
    hidden: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)


class Lora(Section):
    """Low-rank adapters on frozen weights (extra `lora`). The head is trained whole, and all is merged on export."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1, description="the adapters' product is scaled by alpha / rank")
    modules: list[str] = Field([], description="linear layers that get one, by name; all of the backbone's if empty")
    quantize: bool = Field(False, description="QLoRA: the frozen weights in 4-bit NF4 (extra `qlora`)")


class Student(Section):
    model: str | None = Field(
        None, description="folder or Hub id of a causal LM, or of a reward model to train further; or `testbed`"
    )
    revision: str | None = None
    trust_remote_code: bool = Field(False, description="run code that comes with the model; off unless you say so")
    chat_template: str | None = Field(None, description="file with a Jinja template, for models that have none")
    from_scratch: Scratch | None = None
    lora: Lora | None = Field(None, description="train adapters instead of all weights")

    @model_validator(mode="after")
    def _one_student(self) -> Student:
        if (self.model is None) == (self.from_scratch is None):
            raise ValueError("name exactly one of model and from_scratch")
        return self


class Training(Section):
    """Table 8 of the paper where it speaks of it."""

    epochs: int = Field(1, ge=1)
    pairs_per_step: int = Field(16, ge=1, description="pairs in an optimizer step")
    learning_rate: float = Field(1e-5, gt=0, description="unset, 1e-3 for a student from scratch")
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: int = Field(1024, ge=8, description="tokens of prompt and response; longer ones are dropped, counted")
    layout: Literal["trees", "padded"] = Field("trees", description="each distinct token once, or padded rows")
    shuffle: Literal["prompts", "pairs"] = Field("prompts", description="what stays together in a step")
    tokens_per_batch: int = Field(16384, ge=8, description="slots computed at once: distinct tokens, or padded rows")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the layers; weights, heads and losses stay fp32")
    gradient_checkpointing: bool = Field(False, description="less memory for a third more time")
    center: float = Field(0.01, ge=0, description="weight of the squared sum of a pair's rewards; fixes the offset")
    validation: float = Field(0.0, ge=0, lt=1, description="share of the training prompts that choose the best weights")
    evaluate_every: int = Field(50, ge=1, description="steps between two looks at the validation prompts")
    checkpoint_every: int = Field(100, ge=0, description="steps that a killed training loses at most; 0: all of them")
    log_to: list[Literal["tensorboard", "trackio", "wandb"]] = Field([], description="besides training.jsonl")
    threads: int | None = Field(None, ge=1, description="CPU threads; the same number gives the same bits")
    device: str | None = Field(None, description="cpu, cuda, cuda:1, mps; found out if unset")


class Caps(Section):
    """What the calls of the ledger may cost in all, those of earlier runs included; a run stops cleanly below it."""

    money: float | None = Field(None, ge=0, description="in the currency of the prices, which must all be given")
    tokens: int | None = Field(None, ge=0, description="read and written")
    calls: int | None = Field(None, ge=0)


class Evaluation(Section):
    held_out: float = Field(0.0, ge=0, lt=1, description="share of prompts kept out of training to test on")
    testbed_prompts: int = Field(0, ge=0, description="prompts in the testbed's easy / normal / hard sets")
    testbed_tasks: list[TaskName] = Field(list(get_args(TaskName)), min_length=1, description="what they ask for")
    max_length: int | None = Field(None, ge=8, description="tokens of what is tested; default: training.max_length")
    benchmarks: dict[str, str | None] = Field(
        {}, description="benchmark -> its file or folder, or nothing for the Hub's; $REWARD_DISTILLER_DATA is filled in"
    )


class World(Section):
    """The testbed's miniature world; read only where something above says `testbed`."""

    seed: int = 0
    style_bias: float = Field(1.0, ge=0, le=1, description="how far style goes with skill in the candidates")
    verbosity_bias: float = Field(0.8, description="points the teacher adds for a long response")
    position_bias: float = Field(0.3, description="points the teacher adds for the response it sees first")
    noise: float = Field(0.8, ge=0, description="standard deviation of the teacher's noise, in points")
    garble: float = Field(0.005, ge=0, le=1, description="share of the teacher's answers that keep no format")
    cache: str = Field("runs/testbed", description="folder of the models pretrained for the testbed")
    pretrain_steps: int = Field(1000, ge=1, description="optimizer steps of the student's pretraining")
    pretrain_threads: int = Field(2, ge=1, description="CPU threads of the pretraining")


class Config(Section):
    """One run of recipe `reward_model`."""

    recipe: Literal["reward_model"] = "reward_model"
    method: str = "rm_distiller"
    seed: int = 0
    output: str = Field(min_length=1, description="run folder")
    ledger: str | None = Field(None, description="SQLite file of all calls; default: ledger.sqlite in the run folder")
    scenario: Literal["unlabeled", "labeled"] = "unlabeled"
    prompts: DataSource | None = Field(None, description="unlabeled scenario: rows with `prompt`")
    pairs: DataSource | None = Field(None, description="labeled scenario: rows with `prompt`, `chosen`, `rejected`")
    candidates: list[ChatModel] = []
    teacher: ChatModel | None = Field(None, description="unset: recorded; scores and responses are read from the rows")
    annotation: Annotation = Annotation()
    budget: Caps = Caps()
    steerlm: SteerLM = SteerLM()
    synrm: Critiques = Critiques()
    cloud: Cloud = Cloud()
    rmboost: RMBoost = RMBoost()
    rm_distiller: RMDistiller = RMDistiller()
    edit_aligned: EditAligned = EditAligned()
    student: Student
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
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
        elif self.pairs is None or self.prompts is not None or self.candidates:
            raise ValueError("scenario labeled takes `pairs`, and neither `prompts` nor `candidates`")
        if isinstance(own := self.of_method, Refined) and own.reference_fields and self.teacher is None:
            raise ValueError(f"{self.method}.kl_top_logprobs needs a `teacher` that is asked for its own responses")
        return self

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """What was written, before defaults were filled in; a copy."""
        return copy.deepcopy(self._given)

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

    recipe: Literal["compare"] = "compare"
    output: str = Field(min_length=1, description="folder of results.json, table.md and plot.svg")
    store: str | None = Field(None, description="folder of finished runs, may be shared; default: store in the output")
    base: str | dict[str, Any] = Field(description="a run's config: a file, relative to this one, or written here")
    changes: list[str] = Field([], description="key.sub=value: changes to the base, in all arms")
    seeds: list[int] = Field([0], min_length=1)
    processes: int | None = Field(None, ge=1, description="runs side by side; unset: CPU cores / training.threads")
    arms: dict[str, list[str]] = Field(
        min_length=1, description="name -> list of key.sub=value; the first is what the others are compared with"
    )
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

    @property
    def store_path(self) -> Path:
        return Path(self.store) if self.store else Path(self.output) / "store"


def dump_yaml(config: Section) -> str:
    """The resolved config; `load_config` reads the same from it."""
    return write_yaml(config.model_dump(mode="json"))


def load_config(path: str | Path, overrides: list[str] = ()) -> Config:  # type: ignore[assignment]
    """Read a YAML file, apply `key.sub=value` overrides (values are YAML) and validate.

    Raises ConfigError with the file, the dotted key, the problem and the mend.
    """
    data = _read(path, overrides)
    if data.get("recipe") == "compare":
        raise ConfigError(f"{path}: a comparison, not one run's config. Use reward-distiller compare {path}")
    return parse_config(data, where=str(path))


def load_comparison(path: str | Path, overrides: list[str] = ()) -> Comparison:  # type: ignore[assignment]
    """Read a comparison's YAML file in the same way; the path of its base is filled in, the base not read."""
    data = _read(path, overrides)
    if data.get("recipe", "compare") != "compare":
        raise ConfigError(
            f"{path}: one run's config. Write a comparison with `base: {path}`, or use reward-distiller run"
        )
    if isinstance(data.get("base"), str):
        data["base"] = str(Path(path).parent / data["base"])
    try:
        return Comparison.model_validate(data)
    except ValidationError as error:
        raise _as_config_error(error, str(path)) from error


def _read(path: str | Path, overrides: list[str]) -> dict[str, Any]:
    path = Path(path)
    try:
        data = parse_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such config file. Start from one in configs/") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config is a mapping of keys to values, not {type(data).__name__}")
    for override in overrides:
        apply_override(data, override)
    return data


def parse_config(data: dict[str, Any], where: str = "config") -> Config:
    try:
        config = Config.model_validate(data)
        config._given = copy.deepcopy(data)
        return config
    except ValidationError as error:
        raise _as_config_error(error, where) from error


def _as_config_error(error: ValidationError, where: str) -> ConfigError:
    lines = [f"{'.'.join(map(str, e['loc'])) or 'config'}: {_explain(e)}" for e in error.errors()]
    return ConfigError(f"{where}: " + "\n".join(lines))


def _sections(kind: type[Section]) -> list[type[Section]]:
    """All that are of this kind, however far down."""
    return [kind, *(below for section in kind.__subclasses__() for below in _sections(section))]


def _explain(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        names = sorted({name for section in _sections(Section) for name in section.model_fields})
        near = difflib.get_close_matches(str(error["loc"][-1]), names, n=1)
        return f"unknown key. {f'Did you mean {near[0]}?' if near else 'Mend the name'} Or remove it"
    got = repr(error.get("input"))
    return f"{error['msg']} (got {got[:80]}{'...' if len(got) > 80 else ''})"
