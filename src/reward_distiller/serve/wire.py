"""The wire formats: vLLM's /classify, OpenRLHF's /get_reward, and our own /v1/rewards.

Strict: a field of another type, or one that would change the reward and that we do not honour, is an error. Sources:
vLLM 0.32 `entrypoints/pooling/classify/protocol.py`; OpenRLHF `cli/serve_rm.py` and its rollout workers, which send
`query` (rendered chats), `prompts` and `labels`.
"""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from reward_distiller.records import Role


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a character, an unpaired surrogate") from None
    return text


Text = Annotated[str, AfterValidator(_whole)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Turn(Body):
    role: Role
    content: Text


class RewardsRequest(Body):
    """Responses to one prompt: a text, or messages that end with the user's turn."""

    prompt: Text | list[Turn]
    responses: list[Text]
    critiques: list[Text] | None = Field(None, description="one a response, for models that read critiques")

    @model_validator(mode="after")
    def ends_with_the_user(self) -> RewardsRequest:
        if not isinstance(self.prompt, str) and (not self.prompt or self.prompt[-1].role != "user"):
            raise ValueError("prompt: end it with the user's turn; the assistant's are the responses")
        return self


class RewardsReply(Body):
    """Raw rewards, in the order of the responses."""

    rewards: list[float]


class ClassifyRequest(Body):
    """Either `input`, a chat that is rendered already (several, or token ids), or `messages` with the response last."""

    input: Text | list[Text] | list[int] | list[list[int]] | None = None
    messages: list[Turn] | None = None
    use_activation: bool | None = Field(None, description="false: raw rewards; otherwise their sigmoid")
    add_special_tokens: bool | None = Field(None, description="as in vLLM: true for `input`, unless you say otherwise")
    model: str | None = None
    user: str | None = None
    request_id: str | None = None
    priority: Literal[0] = 0

    @model_validator(mode="after")
    def one_of_the_two(self) -> ClassifyRequest:
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages")
        if self.messages is not None:
            if not self.messages or self.messages[-1].role != "assistant":
                raise ValueError("messages: end them with the assistant's turn, which is scored")
            if self.add_special_tokens:
                raise ValueError("add_special_tokens: the chat template writes them; leave it out with messages")
        return self

    def inputs(self) -> list[str] | list[list[int]]:
        """`input` as a list, one item a reward."""
        if isinstance(self.input, str):
            return [self.input]
        if not self.input:
            return []
        return [self.input] if isinstance(self.input[0], int) else self.input


class ClassifyItem(Body):
    index: int
    label: str
    probs: list[float]
    num_classes: Literal[1] = 1


class Usage(Body):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: Literal[0] = 0
    prompt_tokens_details: None = None


class ClassifyReply(Body):
    id: str = Field(default_factory=lambda: f"classify-{uuid.uuid4().hex}")
    object: Literal["list"] = "list"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    data: list[ClassifyItem]
    usage: Usage


class GetRewardRequest(Body):
    """`query`: whole chats as text, in the reward model's own template. `prompts` and `labels` are not read."""

    query: list[Text]
    prompts: list[Any] | None = None
    labels: list[Any] | None = None

    @model_validator(mode="after")
    def as_many(self) -> GetRewardRequest:
        for name in ("prompts", "labels"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.query):
                raise ValueError(f"{name}: {len(given)} of them for {len(self.query)} of query")
        return self


class GetRewardReply(Body):
    """`rewards` are raw; `scores` their sigmoid, for filters that want 0 to 1."""

    rewards: list[float]
    scores: list[float]
    extra_logs: dict[str, list[float]] = {}
