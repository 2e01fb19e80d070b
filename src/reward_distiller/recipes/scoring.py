"""Recipe `scoring`: rows in, the same rows with rewards out, whatever the reward model reads beside the responses.

All rows are checked before any is scored, and nothing is written unless every one was. Knows how a teacher's critiques
come to a model that reads them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from reward_distiller.console import track
from reward_distiller.errors import DataError
from reward_distiller.files import Row, check_writable, read_rows, write_rows
from reward_distiller.model.critiques import Conversation, Critic
from reward_distiller.model.reward_model import RewardModel, TooLong
from reward_distiller.records import canonical_json
from reward_distiller.rows import Fields


class Work(NamedTuple):
    """A row, checked. `critiques` is None where it holds none."""

    messages: Conversation
    responses: list[str]
    critiques: list[str] | None


def score_file(
    model: str,
    source: str,
    target: str,
    *,
    max_length: int | None = None,
    device: str | None = None,
    chat_template: str | None = None,
    trust_remote_code: bool = False,
    critic: AbstractContextManager[Critic] | None = None,
) -> int:
    """Give the number of rows written, with `rewards` and, where the model read any, the `critiques` behind them.

    Critiques in the rows are read as they are; `critic` writes those that are missing.
    """
    check_writable(target)
    rows = list(read_rows(source))
    work = [_checked(source, number, row) for number, row in rows]
    with critic or nullcontext() as writer:
        scorer = RewardModel.from_pretrained(
            model,
            device=device,
            chat_template=chat_template,
            max_length=max_length,
            trust_remote_code=trust_remote_code,
            critic=writer,
        )
        given = [item.critiques for item in work]
        first = next((number for (number, _), texts in zip(rows, given, strict=True) if texts is not None), None)
        if first is not None and scorer.need is None:
            raise DataError(source, f"{model} reads none", row=first, field="critiques", mend="Remove or rename them")
        scored = [(item.messages, item.responses) for item in work]
        try:
            critiques = scorer.critiques(scored, given if scorer.need else None)
            with track("score", sum(len(item.responses) for item in work)) as advance:
                rewards = scorer.score_rows(scored, advance, critiques)
        except TooLong as error:
            raise TooLong(f"{source}: {error}") from error
    made: list[Row] = [{**row, "rewards": values} for (_, row), values in zip(rows, rewards, strict=True)]
    for row, texts in zip(made, critiques or (), strict=critiques is not None):
        row["critiques"] = texts
    write_rows(target, made)
    return len(rows)


def _checked(source: str, number: int, row: Row) -> Work:
    fields = Fields(source, number, row, {})
    prompt = fields.prompt()
    responses, critiques = row.get("responses"), row.get("critiques")
    if not _texts(responses) or not responses:
        raise fields.wrong("responses", "not a list of texts", 'Write ["...", "..."]')
    if critiques is not None and not _texts(critiques):
        raise fields.wrong("critiques", "not a list of texts", 'Write ["...", "..."], or leave it out')
    if critiques is not None and len(critiques) != len(responses):
        raise fields.wrong("critiques", f"{len(critiques)} of {len(responses)} responses", "Write one for each")
    try:
        canonical_json(row).encode()
    except (TypeError, ValueError) as error:
        raise DataError(source, f"cannot be written as JSON ({error})", row=number, mend="Mend or remove it") from error
    return Work(prompt.as_dicts(), responses, critiques)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
