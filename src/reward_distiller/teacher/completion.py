"""What a chat completion's raw body says: the answer's text, why it ended, and the probabilities of its tokens.

Bodies come from servers that may say anything, so every field is checked. Knows nothing of what was asked.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Token:
    """A token of the answer, and the most probable ones in its place with their log-probabilities (nats)."""

    text: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Completion:
    """`tokens` is None where the server gave no log-probabilities, or none that can be read."""

    text: str
    finish_reason: str | None
    tokens: tuple[Token, ...] | None = None


def read_completion(body: bytes) -> Completion:
    """The answer inside a raw body. Raises ValueError with the reason where there is none."""
    try:
        choice = json.loads(body)["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text = message["content"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a chat completion ({type(error).__name__})") from error
    if refusal := message.get("refusal"):
        raise ValueError(f"the model refuses: {str(refusal)[:200]}")
    if reason == "content_filter":
        raise ValueError("the server's content filter ended the answer")
    if not isinstance(text, str):
        raise ValueError("no text in the answer")
    # A lone surrogate cannot be stored or tokenised; JSON can smuggle one in.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return Completion(clean, reason if isinstance(reason, str) else None, _tokens(choice.get("logprobs")))


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    """OpenAI's `choices[0].logprobs`: {"content": [{"token", "top_logprobs": [{"token", "logprob"}]}]}."""
    try:
        return tuple(
            Token(
                _text(place["token"]), tuple((_text(t["token"]), _number(t["logprob"])) for t in place["top_logprobs"])
            )
            for place in logprobs["content"]
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _number(value: Any) -> float:
    number = float(value)
    if math.isnan(number) or number > 0:
        raise ValueError("not a log-probability")
    return number
