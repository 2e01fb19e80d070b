"""How probable each token of a text was, and the most probable ones in its place, out of a server's raw body.

From a chat completion's `logprobs` (the tokens that it wrote) and from vLLM's `prompt_logprobs` (the tokens that it was
given). A token is the id that vLLM gives on request, or its text. Knows no tokenizer.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

_ID = "token_id:"  # vLLM's `return_tokens_as_token_ids`


@dataclass(frozen=True)
class Place:
    """The token that stands there, and (token, log-probability in nats) of the most probable ones."""

    token: str | int
    top: tuple[tuple[str | int, float], ...]


def written_tokens(body: bytes) -> list[Place] | None:
    """Of an answer, in its order; None where the server gave none."""
    try:
        content = json.loads(body)["choices"][0]["logprobs"]["content"]
        return [
            Place(
                _token(entry["token"]), tuple((_token(t["token"]), _nats(t["logprob"])) for t in entry["top_logprobs"])
            )
            for entry in content
        ]
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def given_tokens(body: bytes) -> list[Place] | None:
    """Of a prompt, from its second token on: nothing says how probable the first was."""
    try:
        entries = json.loads(body)["prompt_logprobs"]
        return [_given(entry) for entry in entries[1:]]
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _given(entry: dict[str, Any]) -> Place:
    """vLLM lists the token itself first, and then the most probable ones, itself among them or not."""
    ids = [int(name) for name in entry]
    return Place(ids[0], tuple((int(name), _nats(value["logprob"])) for name, value in entry.items()))


def _token(text: Any) -> str | int:
    if not isinstance(text, str):
        raise TypeError("a token that is no text")
    number = text.removeprefix(_ID)
    return int(number) if number != text else text


def _nats(value: Any) -> float:
    number = float(value)
    if math.isnan(number):
        raise ValueError("a log-probability that is no number")
    return number
