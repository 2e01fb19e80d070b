"""`reward-distiller preview`: what a run would ask, word for word, and what is known of the answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.options import AsJson, Overrides, show
from reward_distiller.config import load_config
from reward_distiller.construct.scoring import Scores
from reward_distiller.recipes.preview import Exchange
from reward_distiller.recipes.preview import preview as previewed
from reward_distiller.teacher.endpoint import printable
from reward_distiller.teacher.parsing import Refinement


def preview(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of a reward model's run")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option("-n", min=1, help="prompts, or pairs, from the first")] = 3,
    ask: Annotated[bool, typer.Option("--ask", help="buy the answers that the ledger lacks, into the ledger")] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that would be asked about the first prompts or pairs, step by step. Buys nothing unless told to --ask.

    Example: reward-distiller preview configs/openai-teacher.yaml -n 1
    """
    settings = load_config(config, overrides or [])
    exchanges = previewed(settings, parts_of(settings), count, ask=ask)
    show([_row(exchange) for exchange in exchanges], "\n".join(map(_text, exchanges)), as_json)


def _row(exchange: Exchange) -> dict[str, Any]:
    row = asdict(exchange)
    return row | {"value": _of(exchange) if exchange.answers and not exchange.reason else None}


def _text(exchange: Exchange) -> str:
    lines = [f"=== {exchange.step}: {exchange.model}, {exchange.record}"]
    lines.append(json.dumps(exchange.request, ensure_ascii=False))
    for message in exchange.messages:
        lines += [f"--- {message['role']}", message["content"]]
    if not exchange.answers:
        lines.append(f"--- no answer: {exchange.reason if exchange.source == 'bought now' else exchange.source}")
    for answer in exchange.answers:
        lines += [f"--- came back ({exchange.source})", answer]
    if exchange.answers:
        lines += [f"--- cannot be read: {exchange.reason}"] if exchange.reason else ["--- read as", _of(exchange)]
    return "\n".join(printable(line) for text in lines for line in text.split("\n")) + "\n"


def _of(exchange: Exchange) -> str:
    """What was parsed."""
    value: Any = exchange.value
    if isinstance(value, Scores):
        return " ".join(f"{score:g}" for score in value.values) + f" ({value.mode})"
    if isinstance(value, Refinement):
        return f"diagnosis: {value.diagnosis}\nresponse: {value.response}"
    if isinstance(value, str):
        return "that text" if value == exchange.answers[-1] else value
    return json.dumps(value, ensure_ascii=False)
