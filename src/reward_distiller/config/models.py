"""The sections of chat models: where they are, what they are asked with, what they cost, and caps on that."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from reward_distiller.config.base import Section
from reward_distiller.records import canonical_json


class Sampling(Section):
    """Sampling parameters as sent. None is not sent: the server's default holds."""

    temperature: float = Field(0.0, ge=0, le=2, description="0: the most probable token each time")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability that is sampled from")
    top_k: int | None = Field(None, ge=-1, description="vLLM, SGLang; not part of OpenAI's own API")
    min_p: float | None = Field(None, ge=0, le=1, description="vLLM, SGLang; not part of OpenAI's own API")
    max_tokens: int = Field(1024, ge=1, description="of an answer; one that is cut off there is not used")


class Price(Section):
    """Money per million tokens, for the cost shown in reports."""

    input: float = Field(ge=0, description="per million tokens read")
    output: float = Field(ge=0, description="per million tokens written")


class Endpoint(Section):
    """Where a model is served, and how its server is spoken to."""

    base_url: str = Field("https://api.openai.com/v1", description="up to and without /chat/completions; or testbed")
    api_key_env: str | None = Field(None, description="environment variable that holds the key; none is sent if unset")
    headers: dict[str, str] = Field({}, description="extra headers as they are; never put a secret here")
    headers_env: dict[str, str] = Field({}, description="extra headers: name -> environment variable with the value")
    query: dict[str, str] = Field({}, description="of the URL; Azure wants api-version")
    proxy: str | None = Field(None, description="URL of a proxy to ask through; unset: the environment says")
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
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="how the server calls it; OpenAI's reasoning models want the second"
    )
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


class Caps(Section):
    """What the calls of the ledger may cost in all, those of earlier runs included; a run stops cleanly below it."""

    money: float | None = Field(None, ge=0, description="in the currency of the prices, which must all be given")
    tokens: int | None = Field(None, ge=0, description="read and written")
    calls: int | None = Field(None, ge=0, description="attempts that were sent")
