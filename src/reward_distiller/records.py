"""The nouns that travel between steps: messages, prompts, responses and preference pairs.

Plain, frozen data with ids that come from content, so that two runs agree on them and nothing is
ever joined by position. Knows no file formats, models or networks.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

Role = Literal["system", "user", "assistant"]
Source = Literal["sampled", "labeled", "refined", "rewritten"]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    role: Role
    content: str


class Prompt(Record):
    """A conversation that ends with a user's turn. `id` is a hash of its messages."""

    id: str
    messages: tuple[Message, ...]

    @classmethod
    def of(cls, messages: tuple[Message, ...]) -> Prompt:
        return cls(id=content_id([m.model_dump() for m in messages]), messages=messages)

    @classmethod
    def from_text(cls, text: str) -> Prompt:
        return cls.of((Message(role="user", content=text),))

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as chat endpoints and chat templates take them."""
        return [{"role": m.role, "content": m.content} for m in self.messages]


class Response(Record):
    """One model's answer to a prompt."""

    prompt_id: str
    model: str
    text: str


class Pair(Record):
    """(x, y_w, y_l) with the teacher's scores s_T (scale 1 to 10) and what else it was asked for.

    That is its own answer y_T, its critiques of the two responses, and their scores by attribute. Scores are None where
    nobody gave any: in pairs that users bring for a method that needs none, and in rewritten ones.
    """

    id: str
    prompt: Prompt
    chosen: str
    rejected: str
    chosen_score: float | None
    rejected_score: float | None
    teacher_response: str | None = None
    chosen_critique: str | None = None
    rejected_critique: str | None = None
    chosen_attributes: dict[str, float] | None = None
    rejected_attributes: dict[str, float] | None = None
    source: Source
    provenance: dict[str, Any] = {}

    @property
    def margin(self) -> float | None:
        """s_T(x, y_w) - s_T(x, y_l), in points of the teacher's scale."""
        if self.chosen_score is None or self.rejected_score is None:
            return None
        return self.chosen_score - self.rejected_score

    @classmethod
    def of(cls, prompt: Prompt, chosen: str, rejected: str, source: Source, **rest: Any) -> Pair:
        identity = content_id([prompt.id, chosen, rejected, source])
        return cls(id=identity, prompt=prompt, chosen=chosen, rejected=rejected, source=source, **rest)


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, characters as they are."""
    return _CANONICAL.encode(value)


def content_id(value: Any) -> str:
    """The first 16 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]
