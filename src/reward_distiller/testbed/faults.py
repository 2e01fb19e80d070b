"""What can go wrong with an answer of the testbed's server, each as real endpoints do it, and which ask meets what.

Pure functions of the request's body and of how often it was asked. What a connection must do for a fault (hang, be
reset) is the server's part.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.testbed.wire import Reply

# Drawn in this order; a name without a rate moves nothing.
FAULTS = (
    "429",  # with Retry-After
    "429_bare",  # without
    "500",
    "503",
    "hang",  # no answer, ever
    "reset",  # broken off in the middle of a body
    "truncated_json",
    "wrong_content_type",  # a right body called text/html: clients should take it
    "empty_choices",
    "garbage",  # text that no parser takes
    "missing_tags",  # the answer without its tags; an answer that has none is right
    "escapes",  # the answer in HTML, its own characters escaped, and amid a terminal's escapes
    "huge",  # the answer, and then 5 MB of words
    "null_content",
    "refusal",
    "length",  # cut off at max_tokens
    "html",  # a login page
)
FAULTY_ASKS = 2  # asks of one body that can meet a fault: fewer than a client's usual three samples
HUGE = 5_000_000  # bytes
GARBAGE = "neither 7 nor \ud800 nor <edited_response> \x1b[31m 8 8 8"  # fits no format; half a character, an escape
LOGIN_PAGE = b"<html><body>Please log in to continue</body></html>"


def check_rates(rates: Mapping[str, float]) -> dict[str, float]:
    """Raises ConfigError for a name that is no fault, and for rates that are no shares."""
    unknown = sorted(set(rates) - set(FAULTS))
    if unknown:
        raise ConfigError(f"fault {unknown[0]!r} is none of {', '.join(FAULTS)}")
    if any(not 0 <= rate <= 1 for rate in rates.values()) or sum(rates.values()) > 1 + 1e-9:
        raise ConfigError("the rates of faults must lie between 0 and 1, and must not sum to more than 1")
    return dict(rates)


def draw_fault(rates: Mapping[str, float], digest: str, seen: int) -> str | None:
    """What goes wrong with the ask of a body (its SHA-256) that was seen so often before; None for nothing."""
    if seen >= FAULTY_ASKS or not rates:
        return None
    draw = int(hashlib.sha256(f"fault:{seen}:{digest}".encode()).hexdigest()[:12], 16) / 16**12
    for name in FAULTS:
        draw -= rates.get(name, 0.0)
        if draw < 0:
            return name
    return None


def error_reply(status: int, message: str, code: str | None = None, headers: Mapping[str, str] = {}) -> Reply:
    """An error in OpenAI's format."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply(status, json.dumps(body).encode(), headers=headers)


def spoiled(answer: bytes, fault: str) -> Reply:
    """What is sent in place of a right answer. `fault` is any but hang."""
    if fault in ("429", "429_bare", "500", "503"):
        again = {"Retry-After": "0"} if fault == "429" else {}
        return error_reply(int(fault[:3]), "a fault that was asked for", headers=again)
    if fault == "reset":
        return Reply(200, answer, broken_at=len(answer) // 2)
    if fault == "truncated_json":
        return Reply(200, answer[: len(answer) // 2])
    if fault == "wrong_content_type":
        return Reply(200, answer, "text/html")
    if fault == "html":
        return Reply(200, LOGIN_PAGE, "text/html")
    body = json.loads(answer)
    body["choices"] = [] if fault == "empty_choices" else [_spoiled_choice(body["choices"][0], fault)]
    return Reply(200, json.dumps(body).encode())


def _spoiled_choice(choice: dict[str, Any], fault: str) -> dict[str, Any]:
    text = choice["message"]["content"]
    if fault == "length":
        choice = {**choice, "finish_reason": "length"}
    messages: dict[str, dict[str, str | None]] = {
        "garbage": {"content": GARBAGE},
        "missing_tags": {"content": re.sub(r"</?[a-z0-9_]+(?:-[0-9]+)?>\n?", "", text)},
        "escapes": {"content": f"\x1b]0;owned\x07\x1b[2J<b>{html.escape(text)}</b>&nbsp;\x1b[0m\x1b[8m"},
        "huge": {"content": text + " word" * (HUGE // 5)},
        "null_content": {"content": None},
        "refusal": {"content": None, "refusal": "i am sorry , but i cannot help with that ."},
        "length": {"content": text[: len(text) // 2]},
    }
    return {**choice, "message": {**choice["message"], **messages[fault]}}
