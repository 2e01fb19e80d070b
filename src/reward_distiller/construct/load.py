"""Prompts and labeled or scored pairs from rows.

A row that cannot be what it should be (wrong type, missing field) is an error that names file, row,
field and mend. A row that is well-formed but useless (empty text, two equal responses, a duplicate) is
dropped and counted. Both are known before anything is paid for.
"""

from __future__ import annotations

from typing import get_args

from reward_distiller.balance import Balance
from reward_distiller.records import Pair, Prompt, Source
from reward_distiller.rows import Fields, Rows


def load_prompts(where: str, rows: Rows, columns: dict[str, str]) -> tuple[list[Prompt], Balance]:
    """Distinct prompts in the order of the file."""
    seen: dict[str, Prompt] = {}
    balance = Balance("load prompts", "rows", 0)
    for number, row in rows:
        balance.total += 1
        prompt = Fields(where, number, row, columns).prompt()
        if not prompt.messages[-1].content.strip():
            balance.lose("dropped", "empty prompt", f"row {number}")
        elif prompt.id in seen:
            balance.lose("dropped", "duplicate prompt", f"row {number}")
        else:
            seen[prompt.id] = prompt
            balance.keep()
    return list(seen.values()), balance.check()


def load_pairs(where: str, rows: Rows, columns: dict[str, str], *, scored: bool) -> tuple[list[Pair], Balance]:
    """Distinct labeled pairs in the order of the file.

    With `scored`, a row must have `chosen_score` and `rejected_score` (the recorded teacher's).
    """
    seen: dict[str, Pair] = {}
    balance = Balance("load pairs", "rows", 0)
    for number, row in rows:
        balance.total += 1
        fields = Fields(where, number, row, columns)
        pair = pair_of(fields, scored=scored)
        if not pair.prompt.messages[-1].content.strip():
            balance.lose("dropped", "empty prompt", f"row {number}")
        elif not pair.chosen.strip() or not pair.rejected.strip():
            balance.lose("dropped", "empty response", f"row {number}")
        elif pair.chosen == pair.rejected:
            balance.lose("dropped", "equal responses", f"row {number}")
        elif pair.id in seen:
            balance.lose("dropped", "duplicate pair", f"row {number}")
        else:
            seen[pair.id] = pair
            balance.keep()
    return list(seen.values()), balance.check()


def pair_of(fields: Fields, *, scored: bool) -> Pair:
    """Raises DataError for what is missing, or is of another type."""
    scores = {name: fields.score(name) for name in ("chosen_score", "rejected_score")}
    for name, value in scores.items():
        if scored and value is None:
            mend = f"Add the teacher's score, map it with columns.{name}=THEIR_COLUMN, or name a teacher"
            raise fields.wrong(name, "missing", mend)
    source = fields.get("source")
    provenance = fields.plain("provenance")
    models = {name: fields.text(name) for name in ("chosen_model", "rejected_model")}
    critiques = {name: fields.text(name) for name in ("chosen_critique", "rejected_critique")}
    return Pair.of(
        fields.prompt(),
        fields.response("chosen"),
        fields.response("rejected"),
        source if source in get_args(Source) else "labeled",
        **scores,
        teacher_response=fields.text("teacher_response"),
        **{name: text for name, text in critiques.items() if text and text.strip()},
        **{name: fields.attributes(name) for name in ("chosen_attributes", "rejected_attributes")},
        provenance={**provenance, **{k: v for k, v in models.items() if v}},
    )
