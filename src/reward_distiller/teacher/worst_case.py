"""What a request may be billed for at most, in tokens, before anybody knows what it took; and what it takes at least.

For attempts of unknown outcome and for what a run may cost. Pure functions of the request as the ledger keeps it. They
know no tokenizer: a token of a byte-level vocabulary, or of one with byte fallback, is a byte at least, so the bytes of
a text bound its tokens. A tokenizer that rewrites text into more bytes before it cuts it is outside the bound.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from reward_distiller.records import canonical_json

PER_MESSAGE = 16  # tokens of a chat template around a turn: its markers and its role take 3 to 10
PER_REQUEST = 128  # tokens of a chat template once: start, generation prompt, a date or default system turn (20 to 80)
BYTES_PER_TOKEN = 4  # of English prose in today's vocabularies; code, figures and most other languages have fewer


class WorstCase(NamedTuple):
    """Tokens at most; None where the request does not say."""

    input: int | None
    output: int | None


def worst_case(request: dict[str, Any]) -> WorstCase:
    """The most tokens that one attempt at a request can be billed for.

    Input: every byte of the messages' texts is a token, and of all else in the request that a template may show (tools,
    a response's schema, template arguments); plus the constants above. Output: `max_tokens` or `max_completion_tokens`
    (the larger where both are there) for each of `n` choices. A template that adds a longer system turn of its own is
    outside the bound: send one with the prompt. None where a message holds anything but text, or no limit is sent.
    """
    texts = _text_bytes(request)
    return WorstCase(None if texts is None else texts + _frame(request), _most_output(request))


def low_input(request: dict[str, Any]) -> int | None:
    """About the fewest input tokens that a request takes: bytes of the messages' texts / BYTES_PER_TOKEN.

    An estimate and no bound. None where a message holds anything but text.
    """
    texts = _text_bytes(request)
    return None if texts is None else texts // BYTES_PER_TOKEN


def _text_bytes(request: dict[str, Any]) -> int | None:
    messages = request.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    texts = [value for message in messages for name, value in message.items() if name != "role"]
    return sum(map(_bytes, texts)) if all(isinstance(text, str) for text in texts) else None


def _frame(request: dict[str, Any]) -> int:
    shown = [
        value if isinstance(value, str) else canonical_json(value)
        for name, value in request.items()
        if isinstance(value, (str, list, dict)) and name not in ("model", "messages")
    ]
    return sum(map(_bytes, shown)) + PER_MESSAGE * len(request["messages"]) + PER_REQUEST


def _most_output(request: dict[str, Any]) -> int | None:
    limits = [request[name] for name in ("max_tokens", "max_completion_tokens") if request.get(name) is not None]
    choices = 1 if request.get("n") is None else request["n"]
    if not limits or not all(_is_count(number) for number in (*limits, choices)):
        return None
    return max(limits) * choices


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
