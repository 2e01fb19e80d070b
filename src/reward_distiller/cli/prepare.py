"""`reward-distiller prepare`: what a run reads and no run makes, from data sets and models as they are."""

from __future__ import annotations

from typing import Annotated

import typer

from reward_distiller.config import fill_data_folder
from reward_distiller.construct.recorded import alpaca_eval_pairs
from reward_distiller.files import write_rows
from reward_distiller.recipes.distributions import cache_distributions

app = typer.Typer(no_args_is_help=True)


@app.callback()
def prepare() -> None:
    """Make what a run reads: rows of pairs from a published data set, distributions from a local teacher."""


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


@app.command()
def distributions(
    pairs: Annotated[str, typer.Option(help="file of pairs with `teacher_response`")],
    teacher: Annotated[str, typer.Option(help="folder or Hub id of a local LM of the student's vocabulary")],
    student: Annotated[str, typer.Option(help="folder or Hub id whose tokenizer and chat template the student has")],
    output: Annotated[str, typer.Option(help="file to write: .safetensors")],
    top_k: Annotated[int, typer.Option(min=1, help="tokens kept at each position")] = 128,
    chat_template: Annotated[str | None, typer.Option(help="file, for students that carry none")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
) -> None:
    """A teacher's top-k distributions over its responses, for `rm_distiller.kl_store`.

    Example: reward-distiller prepare distributions --pairs runs/mine/pairs.jsonl --teacher Qwen/Qwen3-14B
    --student Qwen/Qwen2.5-3B-Instruct --output runs/mine/teacher.safetensors
    """
    count = cache_distributions(pairs, teacher, student, output, top_k, chat_template, device)
    typer.echo(f"distributions of {count} teacher responses: {output}")
