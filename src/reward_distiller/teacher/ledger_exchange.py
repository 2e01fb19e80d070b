"""Answers out of a ledger and into one, as JSONL: a line is a call with what came back. In constant memory.

    {"key": "sha256:...", "model": ..., "step": ..., "request": {...}, "body": "...", "usage": {...}}

`body` is the raw response as text, or `body_base64` where it is no UTF-8. A line to import needs `request` and one of
`body`, `body_base64` and `response` (an answer's text alone, for example a person's); a key or model that it names must
be the request's own. Knows nothing of what an answer means: a body that is no chat completion comes in as it is.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from reward_distiller.errors import DataError, FileError, LedgerError
from reward_distiller.files import new_file, read_lines
from reward_distiller.records import canonical_json
from reward_distiller.teacher.ledger import Call, Ledger, LedgerReader, TakenIn, key_of_text

IMPORTED = "imported"  # the step of lines that name none
GZIP_LEVEL = 6  # zlib's own default; 9 takes much longer for hardly less
BODIES = ("body", "body_base64", "response")

# In the order in which the answers came.
_ANSWERS = """
    SELECT r.key, q.model, a.step, a.outcome, q.request, r.body, r.input_tokens, r.output_tokens
    FROM responses r LEFT JOIN requests q ON q.key = r.key LEFT JOIN attempts a ON a.id = r.attempt
    ORDER BY r.rowid
"""


def export_answers(ledger: LedgerReader, path: str | Path) -> int:
    """Write a line for each committed response to a .jsonl or .jsonl.gz file; give their number.

    `usage` is null for imported answers, for which nothing was billed here. The file appears when it is complete.
    Raises LedgerError for a row that does not hold what its key stands for, FileError where nothing can be written.
    """
    if not str(path).endswith((".jsonl", ".jsonl.gz")):
        raise FileError(f"{path}: answers are written as .jsonl or .jsonl.gz. Name it so")
    count = 0
    with ledger.snapshot(), new_file(path) as raw:
        packed = gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) if str(path).endswith(".gz") else nullcontext(raw)
        with packed as file:
            for row in ledger.rows(_ANSWERS):
                file.write(_line(ledger.path, *row).encode())
                count += 1
    return count


def import_answers(ledger: Ledger, path: str | Path) -> TakenIn:
    """Take a file's answers in, all or none: they count as answered, under attempts that were billed no tokens.

    A call that is answered already keeps its answer. Raises DataError for the first line that cannot be right.
    """
    taken = ledger.take_in(_answers(Path(path)))
    if not taken.added + taken.kept:
        raise DataError(path, "the file holds no line", mend="Check how it was written")
    return taken


def _line(
    where: Path,
    key: str,
    model: str | None,
    step: str | None,
    outcome: str | None,
    request: str | None,
    body: bytes,
    input_tokens: int | None,
    output_tokens: int | None,
) -> str:
    if request is None or key_of_text(request) != key:
        raise LedgerError(f"{where}: {key} is not the key of its request. See: reward-distiller ledger check {where}")
    try:
        answer = {"body": body.decode("utf-8")}
    except UnicodeDecodeError:
        answer = {"body_base64": base64.b64encode(body).decode("ascii")}
    usage = None if outcome == "imported" else {"input_tokens": input_tokens, "output_tokens": output_tokens}
    before, after = _json({"key": key, "model": model, "step": step}), _json({**answer, "usage": usage})
    # The request goes in as it stands: it is JSON on one line, and its key vouches for it.
    return f'{before[:-1]}, "request": {request}, {after[1:]}\n'


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _answers(path: Path) -> Iterator[tuple[Call, bytes]]:
    for number, line in read_lines(path):
        row = _parsed(path, number, line)
        yield _Line(path, number, row).answer()


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(
            line.decode("utf-8-sig" if number == 1 else "utf-8"), object_pairs_hook=_object, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:  # ValueError: no UTF-8, no JSON, or one of the two below
        raise DataError(path, f"not valid JSON ({error})", row=number, mend="Mend or remove the line") from error
    if not isinstance(row, dict):
        raise DataError(
            path, f"a {type(row).__name__}, not an object", row=number, mend='Write {"request": {...}, ...}'
        )
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # which of the two was asked, nobody knows
        raise ValueError("a name stands twice in one object")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


class _Line:
    """One line's fields, with errors that say where they stand."""

    def __init__(self, path: Path, number: int, row: dict[str, Any]):
        self.path, self.number, self.row = path, number, row

    def answer(self) -> tuple[Call, bytes]:
        model, request = self._request()
        key = key_of_text(request)
        for name, own in (("key", key), ("model", model)):
            if self.row.get(name) not in (None, own):
                mend = "Leave it out, or mend the request: it must be what was asked, to the last character"
                raise self._wrong(name, f"{self.row[name]!r:.80} is not the request's own, {own!r}", mend)
        return Call(key, model, request, self._step()), self._body(model)

    def _request(self) -> tuple[str, str]:
        """The model's name, and the request in canonical JSON."""
        request = self.row.get("request")
        if not isinstance(request, dict):
            raise self._wrong("request", "missing, or not an object", "Write the request's whole body, and `sample`")
        model, messages, sample = (request.get(name) for name in ("model", "messages", "sample"))
        if not isinstance(model, str) or not model:
            raise self._wrong("request.model", "missing, or not text", "Write the name of the model that was asked")
        if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
            raise self._wrong("request.messages", "not a list of messages", "Write [{role, content}, ...]")
        if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
            raise self._wrong(
                "request.sample", "missing, or not a count", "Write 0 for a question's first answer, 1 for its second"
            )
        try:
            return self._text("request.model", model), self._text("request", canonical_json(request))
        except (ValueError, RecursionError) as error:  # a number beyond all floats; a list in a list in a list ...
            raise self._wrong("request", f"cannot be written as JSON ({error})", "Mend it") from error

    def _step(self) -> str:
        step = IMPORTED if self.row.get("step") is None else self.row["step"]
        if not isinstance(step, str) or not step:
            raise self._wrong("step", "not text", "Write the step's name, or leave it out")
        return self._text("step", step)

    def _body(self, model: str) -> bytes:
        given = [name for name in BODIES if self.row.get(name) is not None]
        if len(given) != 1:
            problem = f"{' and '.join(given)} are both there" if given else "missing"
            raise self._wrong(given[0] if given else "body", problem, f"Write one of {', '.join(BODIES)}")
        name, value = given[0], self.row[given[0]]
        if not isinstance(value, str):
            raise self._wrong(name, "not text", "Write the response as text, or in base64 under body_base64")
        if name == "body_base64":
            try:
                return base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError) as error:
                raise self._wrong(name, f"not base64 ({error})", "Write it in base64, or as text under body") from error
        text = self._text(name, value)
        return (text if name == "body" else _completion(model, text)).encode()

    def _text(self, name: str, text: str) -> str:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise self._wrong(name, f"holds half a character ({error.reason})", "Save it as valid Unicode") from error
        return text

    def _wrong(self, name: str, problem: str, mend: str) -> DataError:
        return DataError(self.path, problem, row=self.number, field=name, mend=mend)


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str) and "content" in message


def _completion(model: str, text: str) -> str:
    """A person's answer as a chat endpoint would have sent it, less the usage."""
    message = {"role": "assistant", "content": text}
    return canonical_json({"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
