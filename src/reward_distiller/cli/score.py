"""`reward-distiller score`: rows in, the same rows with rewards out. All rows are checked before any is scored."""

from __future__ import annotations

from reward_distiller.console import track
from reward_distiller.construct.load import Fields
from reward_distiller.errors import DataError
from reward_distiller.files import Row, check_writable, read_rows, write_rows
from reward_distiller.model.reward_model import RewardModel, TooLong
from reward_distiller.records import canonical_json


def score_file(
    model: str,
    source: str,
    target: str,
    max_length: int | None,
    device: str | None,
    chat_template: str | None,
    trust_remote_code: bool,
) -> int:
    """Give the number of rows written. Nothing is written unless every row could be scored."""
    check_writable(target)
    rows = list(read_rows(source))
    work = [_checked(source, number, row) for number, row in rows]
    scorer = RewardModel.from_pretrained(
        model,
        device=device,
        chat_template=chat_template,
        max_length=max_length,
        trust_remote_code=trust_remote_code,
    )
    with track("score", sum(len(responses) for _, responses in work)) as advance:
        try:
            rewards = scorer.score_rows(work, advance)
        except TooLong as error:
            raise TooLong(f"{source}: {error}") from error
    write_rows(target, ({**row, "rewards": values} for (_, row), values in zip(rows, rewards, strict=True)))
    return len(rows)


def _checked(source: str, number: int, row: Row) -> tuple[list[dict[str, str]], list[str]]:
    prompt = Fields(source, number, row, {}).prompt()
    responses = row.get("responses")
    if not isinstance(responses, list) or not responses or not all(isinstance(r, str) for r in responses):
        raise DataError(source, "not a list of texts", row=number, field="responses", mend='Write ["...", "..."]')
    try:
        canonical_json(row).encode()
    except (TypeError, ValueError) as error:
        raise DataError(source, f"cannot be written as JSON ({error})", row=number, mend="Mend or remove it") from error
    return prompt.as_dicts(), responses
