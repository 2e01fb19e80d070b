"""What a reward model reads beside the response: a critique, a turn of its own behind the user's request for one.

    [..., response, request, critique]

The reward is read at the end of that conversation. Who writes critiques is a `Critic`: a teacher that is handed in, or
the model itself. Knows no rewards and no teachers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from reward_distiller.errors import ModelError
from reward_distiller.model.chat import ChatFormat
from reward_distiller.model.generation import Generator, causal_lm

Source = Literal["teacher", "self"]
Conversation = list[dict[str, str]]
Rows = Sequence[tuple[Conversation, Sequence[str]]]  # messages that end with the user's turn, and responses to them
Critic = Callable[[Rows], list[list[str]]]  # a critique of every response, in the rows' order


@dataclass(frozen=True)
class CritiqueNeed:
    """Whose critiques a model was trained to read, and the user's turn that asks for one.

    `max_tokens` bounds a critique that the model writes itself.
    """

    source: Source
    request: str
    max_tokens: int = 128

    def as_dict(self) -> dict[str, Any]:
        """As it stands in config.json, under `reward_distiller.needs_at_inference`."""
        values = asdict(self)
        return {"critique": values.pop("source"), **values}

    @classmethod
    def of(cls, value: Any) -> CritiqueNeed | None:
        """From config.json; None there means that the response is enough. Raises ModelError for anything unknown."""
        if value is None:
            return None
        match value:
            case {"critique": "teacher" | "self" as source, "request": str(request), "max_tokens": int(limit), **rest}:
                if not rest and request and limit > 0 and not isinstance(limit, bool):
                    return cls(source, request, limit)
        raise ModelError(
            f"config.json: reward_distiller.needs_at_inference is {str(value)[:200]}, which this version does not "
            'know. It reads {"critique": "teacher" or "self", "request": text, "max_tokens": number}, or null'
        )


def with_critique(messages: Sequence[dict[str, str]], response: str, request: str) -> Conversation:
    """The conversation that a critique answers; the critique is then its last turn."""
    return [*messages, {"role": "assistant", "content": response}, {"role": "user", "content": request}]


@dataclass(frozen=True)
class SelfCritic:
    """A `Critic` that continues the conversations with the reward model's own LM head."""

    generator: Generator
    request: str

    def __call__(self, rows: Rows, advance: Callable[[], None] = lambda: None) -> list[list[str]]:
        """`advance` is called once for each critique."""
        turns = [with_critique(messages, text, self.request) for messages, responses in rows for text in responses]
        written = iter(self.generator.generate(turns, advance))
        return [[next(written) for _ in responses] for _, responses in rows]


def self_critic(
    classifier: Any, lm_head: nn.Module | None, chat: ChatFormat, need: CritiqueNeed, *, trust_remote_code: bool = False
) -> SelfCritic:
    """The critic in a reward model's parts, whose weights it shares. Raises ModelError where there is no LM head."""
    if lm_head is None:
        raise ModelError(
            f"{chat.where} is to write its own critiques, and its LM head is missing. Put lm_head.safetensors, which "
            "is saved with such a model, back beside it"
        )
    lm = causal_lm(classifier, lm_head, trust_remote_code=trust_remote_code)
    return SelfCritic(Generator(lm, chat, need.max_tokens), need.request)
