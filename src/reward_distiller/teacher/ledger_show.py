"""One call of the ledger as text: what was asked, every attempt, and what came back as it came.

Whatever a model or a server wrote is shown with its control characters as escapes, so that no answer can speak to the
terminal that shows it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from reward_distiller.errors import LedgerError
from reward_distiller.teacher.endpoint import printable
from reward_distiller.teacher.ledger import LedgerReader

ALGORITHM = "sha256:"  # begins every key, and may be left out of a prefix
SHOWN = 5  # keys that an ambiguous prefix names


def find_key(ledger: LedgerReader, prefix: str) -> str:
    """The key of the one call whose key starts so. Raises LedgerError where there is none, or more than one."""
    keys = list(dict.fromkeys([*_keys(ledger, prefix), *_keys(ledger, ALGORITHM + prefix)]))
    if not keys:
        raise LedgerError(f"{ledger.path} has no call whose key starts with {printable(prefix)!r}. Check the key")
    if len(keys) > 1:
        more = " ..." if len(keys) > SHOWN else ""
        raise LedgerError(
            f"{ledger.path}: more than one key starts with {printable(prefix)!r}: "
            f"{' '.join(map(printable, keys[:SHOWN]))}{more}. Write more of it"
        )
    return keys[0]


def show(ledger: LedgerReader, prefix: str) -> str:
    """The call whose key starts so, whole. Raises LedgerError as `find_key` does."""
    with ledger.snapshot():
        key = find_key(ledger, prefix)
        model, request = next(ledger.rows("SELECT model, request FROM requests WHERE key = ?", key))
        query = "SELECT id, step, outcome, detail, started, finished, worst_input, worst_output FROM attempts"
        attempts = list(ledger.rows(f"{query} WHERE key = ? ORDER BY id", key))
        bought_by = next(ledger.rows("SELECT attempt FROM responses WHERE key = ?", key), None)
        stored = ledger.get(key)
    parts = [f"key:    {printable(key)}\nmodel:  {printable(model)}", f"request:\n{_shown(_indented(request))}"]
    parts.append("attempts:\n" + ("\n".join(_attempt(*row) for row in attempts) or "none"))
    if stored is None or bought_by is None:
        parts.append("response: none")
    else:
        tokens = [f"{_number(stored.input_tokens)} input tokens", f"{_number(stored.output_tokens)} output tokens"]
        body = stored.body.decode("utf-8", "backslashreplace")
        parts.append(f"response: of attempt {bought_by[0]}, {', '.join(tokens)}\n{_shown(body)}")
    return "\n\n".join(parts)


def _keys(ledger: LedgerReader, prefix: str) -> list[str]:
    if not prefix.isascii():  # no key is; and half a character could not be looked for
        return []
    after = prefix + "\U0010ffff"
    query = f"SELECT key FROM requests WHERE key >= ? AND key < ? ORDER BY key LIMIT {SHOWN + 1}"
    return [key for (key,) in ledger.rows(query, prefix, after)]


def _attempt(
    number: int, step: str, outcome: str | None, detail: str | None, started: float, finished: float | None, *worst: int
) -> str:
    text = (
        f"{number}  {printable(step)}: {printable(outcome or 'unknown')}{f' ({printable(detail)})' if detail else ''}"
    )
    text += f", sent {_time(started)}"
    if finished is not None:
        return f"{text}, ended {_time(finished)} ({finished - started:.1f} s)"
    return f"{text}, at most {_number(worst[0])} input and {_number(worst[1])} output tokens"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds")


def _number(tokens: int | None) -> str:
    return "unknown" if tokens is None else str(tokens)


def _indented(request: str) -> str:
    try:
        return json.dumps(json.loads(request), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # a damaged row is shown as it is
        return request


def _shown(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))
