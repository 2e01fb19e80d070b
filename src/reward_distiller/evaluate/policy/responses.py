"""A policy's responses from a file, and the tasks or prompts that they answer.

They are matched by what the prompt says, or by a task's id where a row has no prompt: never by their place in the file.
Two different responses to one prompt are an error, since nothing says which counts. Knows no judge and no figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_distiller.balance import Balance
from reward_distiller.errors import DataError
from reward_distiller.evaluate.policy.protocol import Task
from reward_distiller.files import read_rows
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields

EXPECTS = "Write rows {prompt: text or messages, response: text}, and maybe id and model"


@dataclass(frozen=True)
class PolicyResponse:
    """A row: `prompt` or `id` says what it answers."""

    row: int
    text: str
    prompt: Prompt | None = None
    id: str | None = None


@dataclass(frozen=True)
class Responses:
    """The responses of one policy; `model` is its name where the rows have one."""

    path: Path
    rows: Sequence[PolicyResponse]
    model: str | None = None

    def wrong(self, row: int, problem: str, mend: str) -> DataError:
        return DataError(self.path, problem, row=row, field="prompt", mend=mend)


def read_responses(path: str | Path) -> Responses:
    """Rows with `response` and `prompt` or `id`, and maybe `model`. Raises DataError for what is none of these."""
    rows, models = [], set()
    for number, row in read_rows(path):
        fields = Fields(str(path), number, row, {})
        if row.get("response") is None:
            raise fields.wrong("response", "missing", EXPECTS)
        identity = _identity(fields)
        prompt = None if row.get("prompt") is None else fields.prompt()
        if prompt is None and identity is None:
            raise fields.wrong("prompt", "missing, and there is no id", EXPECTS)
        rows.append(PolicyResponse(number, fields.response("response"), prompt, identity))
        models.add(fields.text("model"))
        if len(models) > 1:
            names = " and ".join(sorted(map(repr, models)))
            raise fields.wrong("model", f"rows of {names} in one file", "Write each policy into a file of its own")
    return Responses(Path(path), rows, *models)


def match(tasks: Sequence[Task], responses: Responses) -> tuple[dict[str, str], Balance]:
    """Task id -> response, in the order of the tasks, and what became of the rows.

    A row answers every task that asks its prompt, or that one of them whose id it has. Raises DataError for two
    different responses to a task, and where no task is answered.
    """
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        by_prompt[task.prompt.id].append(task.id)
    ids = {task.id for task in tasks}
    found: dict[str, PolicyResponse] = {}
    balance = Balance("match responses", "rows", len(responses.rows))
    for row in responses.rows:
        if row.prompt is None:
            answered = [row.id] if row.id in ids else []
        else:
            asking = by_prompt.get(row.prompt.id, [])
            answered = [row.id] if row.id in asking else asking
        fresh = [_take(found, str(identity), row, responses) for identity in answered]
        if not answered:
            balance.lose("dropped", "answers nothing that the benchmark asks", f"row {row.row}")
        elif any(fresh):
            balance.keep()
        else:
            balance.lose("dropped", "repeats a row", f"row {row.row}")
    if not found:
        mend = "Check that prompt holds the benchmark's own words, messages without a system turn, and nothing else"
        raise DataError(responses.path, "no row answers a prompt of the benchmark", mend=mend)
    return {task.id: found[task.id].text for task in tasks if task.id in found}, balance.check()


def by_prompt(responses: Responses) -> tuple[dict[Prompt, str], Balance]:
    """Prompt -> response, in the file's order. Raises DataError for a row without a prompt, and for two responses."""
    found: dict[str, PolicyResponse] = {}
    prompts: dict[str, Prompt] = {}
    balance = Balance(f"read {responses.path.name}", "rows", len(responses.rows))
    for row in responses.rows:
        if row.prompt is None:
            raise responses.wrong(row.row, "missing", "A judge must see it: add it")
        prompts[row.prompt.id] = row.prompt
        if _take(found, row.prompt.id, row, responses):
            balance.keep()
        else:
            balance.lose("dropped", "repeats a row", f"row {row.row}")
    return {prompts[identity]: row.text for identity, row in found.items()}, balance.check()


def _take(found: dict[str, PolicyResponse], key: str, row: PolicyResponse, responses: Responses) -> bool:
    """Whether the row is the first with that key. Raises DataError where the first says something else."""
    first = found.setdefault(key, row)
    if first.text != row.text:
        raise responses.wrong(
            row.row, f"another response to what row {first.row} answers", "Keep one of the two; a policy answers once"
        )
    return first is row


def _identity(fields: Fields) -> str | None:
    value = fields.get("id")
    if value is None or (isinstance(value, str) and value):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise fields.wrong("id", f"{value!r:.40} is neither text nor a whole number", "Mend it, or leave it out")
