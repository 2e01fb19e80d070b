"""`reward-distiller prepare`: what a run reads and no run makes, from data sets and models as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.cli.evaluate import options_of
from reward_distiller.cli.lazy import Described
from reward_distiller.config import DataSource, World, fill_data_folder
from reward_distiller.construct.recorded import alpaca_eval_pairs
from reward_distiller.errors import ConfigError
from reward_distiller.files import write_rows
from reward_distiller.recipes.distributions import ask_distributions, cache_distributions
from reward_distiller.recipes.judges import JudgeSettings, chat_model_of
from reward_distiller.recipes.label_filter import filter_labels
from reward_distiller.teacher.endpoint import printable
from reward_distiller.testbed.parts import TestbedParts

app = typer.Typer(cls=Described, no_args_is_help=True)


@app.callback()
def prepare() -> None:
    """Make what a run reads: pairs of a data set, pairs with sure labels, distributions of a local teacher."""


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
    teacher: Annotated[
        str, typer.Option(help="folder or Hub id of a local LM of the student's vocabulary; MODEL@URL of a vLLM server")
    ],
    student: Annotated[str, typer.Option(help="folder or Hub id whose tokenizer and chat template the student has")],
    output: Annotated[str, typer.Option(help="file to write: .safetensors")],
    top_k: Annotated[int, typer.Option(min=1, help="tokens kept at each position")] = 128,
    chat_template: Annotated[str | None, typer.Option(help="file, for students that carry none")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    teacher_options: Annotated[
        str, typer.Option(metavar="JSON", help='of MODEL@URL, as in a config: {"api_key_env": "KEY"}')
    ] = "{}",
) -> None:
    """A teacher's top-k distributions over its responses, for `rm_distiller.kl_store`.

    Example: reward-distiller prepare distributions --pairs runs/mine/pairs.jsonl --teacher Qwen/Qwen3-14B
    --student Qwen/Qwen2.5-3B-Instruct --output runs/mine/teacher.safetensors
    """
    if "@" in teacher:
        model = chat_model_of(teacher, JudgeSettings(endpoint=options_of(teacher_options)))
        parts = TestbedParts(World(), seed=0)
        count = ask_distributions(pairs, model, student, output, top_k, chat_template, parts)
    else:
        count = cache_distributions(pairs, teacher, student, output, top_k, chat_template, device)
    typer.echo(f"distributions of {count} teacher responses: {output}")


@app.command("filter")
def filter_command(
    pairs: Annotated[str, typer.Option(help="file with prompt, chosen and rejected")],
    judge: Annotated[str, typer.Option(metavar="MODEL@URL", help="chat endpoint that is asked in both orders")],
    output: Annotated[str, typer.Option(help="file to write: .jsonl or .parquet")],
    count: Annotated[int | None, typer.Option(min=1, help="stop when so many pairs are confirmed")] = None,
    seed: Annotated[int, typer.Option(help="decides which pairs are asked first, with --count")] = 0,
    format: Annotated[str, typer.Option(help="how the judge is asked; one that shows two responses")] = (
        "pairwise_ranking"
    ),
    reasoning: Annotated[bool, typer.Option("--reasoning", help="the judge reasons before its verdict")] = False,
    judge_options: Annotated[str, typer.Option(metavar="JSON", help='as in a config: {"api_key_env": "KEY"}')] = "{}",
    columns: Annotated[
        list[str] | None, typer.Option(metavar="OURS=THEIRS", help="our field and their column; once for each")
    ] = None,
    ledger: Annotated[str | None, typer.Option(help="default: ledger.sqlite beside the output")] = None,
) -> None:
    """Keep the pairs whose label a judge confirms in both orders: a test set to trust.

    Example: reward-distiller prepare filter --pairs arabic.jsonl --judge my/model@http://localhost:8000/v1
    --output runs/arabic/test.jsonl --count 1000
    """
    settings = JudgeSettings(format, reasoning, endpoint=options_of(judge_options))
    source = DataSource(path=pairs, columns=dict(map(_column, columns or [])))
    made = filter_labels(source, judge, settings, Path(output), ledger, count, seed, TestbedParts(World(), seed=0))
    for balance in made.balances:
        typer.echo(balance.line())
        for fate, reasons in balance.reasons.items():
            for reason, number in reasons.most_common():
                typer.echo(f"  {fate} {number}: {printable(reason)}")
    for row in made.cost:
        money = "unknown" if row["money"] is None else f"{row['money']:.2f}"
        tokens = f"{row['input_tokens']} input tokens, {row['output_tokens']} output tokens"
        typer.echo(f"cost: {row['calls']} answers, {tokens}, money {money}")
    typer.echo(f"{made.kept}{f' of {count} wanted' if count else ''} pairs: {output}")


def _column(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition("=")
    if not (ours and theirs):
        raise ConfigError(f"--columns {text!r}: write OURS=THEIRS, for example prompt=instruction")
    return ours, theirs
