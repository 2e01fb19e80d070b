"""Recipe `label_filter`: the rows of a file whose labels a judge confirms, and what became of the others.

The answers stand in a ledger, so a killed filter goes on and buys nothing twice. The file is written at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.config import DataSource
from reward_distiller.construct.label_filter import confirmed, pairwise_format
from reward_distiller.construct.load import load_pairs, pair_of
from reward_distiller.errors import ConfigError, DataError
from reward_distiller.files import Row, check_writable, write_rows
from reward_distiller.recipes.judges import JudgeSettings, chat_model_of
from reward_distiller.recipes.parts import Parts
from reward_distiller.rows import Fields, Rows, rows_of
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.prompts import Templates


@dataclass(frozen=True)
class Filtered:
    kept: int
    balances: list[Balance]
    cost: list[dict[str, Any]]


def filter_labels(
    source: DataSource,
    judge: str,
    settings: JudgeSettings,
    output: Path,
    ledger: str | None,
    count: int | None,
    seed: int,
    parts: Parts,
) -> Filtered:
    """Write the rows that a judge, MODEL@URL, confirms, and beside them the answers that could not be used.

    Rows keep their columns; those that `source.columns` maps stand under our names as well. Raises DataError where
    none is confirmed, CallsFailed where the server gave up.
    """
    check_writable(output)
    pairwise_format(settings.format, settings.reasoning)
    model = parts.chat_model(chat_model_of(judge, settings))
    check_environment(model)
    if source.file.resolve() == output.resolve():
        raise ConfigError(f"--output {output}: that is the file of --pairs. Name another")
    where, found = rows_of(source)
    rows = list(found)
    pairs, loaded = load_pairs(where, rows, source.columns, scored=False)
    ledger_path = Path(ledger) if ledger else output.parent / "ledger.sqlite"
    with open_engine(ledger_path, parts.transports) as engine:
        kept, balances = confirmed(
            engine,
            model,
            pairs,
            Templates(settings.templates),
            format=settings.format,
            reasoning=settings.reasoning,
            count=count,
            seed=seed,
        )
        engine.say_calls()
        cost = engine.cost()
    quarantine = output.with_suffix(".quarantine.jsonl")
    quarantine.unlink(missing_ok=True)
    if unusable := [row for balance in balances for row in balance.quarantine]:
        write_rows(quarantine, unusable)
    if not kept:
        reasons = "; ".join(balance.line() for balance in balances)
        raise DataError(where, "the judge confirms none of the pairs", mend=f"What became of them: {reasons}")
    write_rows(output, _rows(where, rows, source.columns, {pair.id for pair in kept}, model.model))
    return Filtered(len(kept), [loaded, *balances], cost)


def _rows(where: str, rows: Rows, columns: dict[str, str], kept: set[str], judge: str) -> list[Row]:
    """The first row of each kept pair, in the order of the file."""
    found: dict[str, Row] = {}
    for number, row in rows:
        fields = Fields(where, number, row, columns)
        identity = pair_of(fields, scored=False).id
        if identity in kept:
            ours = {name: fields.get(name) for name in columns}
            found.setdefault(identity, {**row, **ours, "confirmed_by": judge})
    return list(found.values())
