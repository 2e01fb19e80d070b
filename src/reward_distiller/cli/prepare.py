"""`reward-distiller prepare`: published data sets whose layout no column mapping can express, as rows of pairs."""

from __future__ import annotations

from typing import Annotated

import typer

from reward_distiller.config import fill_data_folder
from reward_distiller.construct.recorded import alpaca_eval_pairs
from reward_distiller.files import write_rows

app = typer.Typer(no_args_is_help=True)


@app.callback()
def prepare() -> None:
    """Turn a published data set into rows that `scenario: labeled` reads."""


@app.command("alpaca-eval")
def alpaca_eval(
    data: Annotated[str, typer.Option(help="folder with the reference and annotations/; one file a model")],
    output: Annotated[str, typer.Option(help="file to write: .jsonl or .parquet")],
    pairs_per_instruction: Annotated[int, typer.Option(help="pairs of models drawn for each instruction")] = 4,
    seed: Annotated[int, typer.Option(help="decides the draws")] = 0,
) -> None:
    """AlpacaEval 2: pairs of two models' answers, scored by the judge's preference, with GPT-4's own answer.

    Example: reward-distiller prepare alpaca-eval --data data/alpaca_eval --output runs/alpaca-eval/pairs.jsonl
    """
    rows, balance = alpaca_eval_pairs(fill_data_folder(data), pairs_per_instruction, seed)
    write_rows(output, rows)
    typer.echo(balance.line())
    typer.echo(f"{len(rows)} pairs: {output}")
