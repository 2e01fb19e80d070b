"""`reward-distiller preview`: what a run would ask, word for word, and what is known of the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.options import AsJson, Overrides, show
from reward_distiller.config import load_run
from reward_distiller.construct.scoring import Scores
from reward_distiller.recipes.preview.exchanges import Exchange, Seen
from reward_distiller.recipes.preview.runs import preview as previewed
from reward_distiller.teacher.endpoint import printable
from reward_distiller.teacher.parsing import Refinement


def preview(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of a run of any recipe")],
    overrides: Overrides = None,
    count: Annotated[int, typer.Option("-n", min=1, help="prompts, or pairs, from the first")] = 3,
    ask: Annotated[bool, typer.Option("--ask", help="buy the answers that the ledger lacks, into the ledger")] = False,
    as_json: AsJson = False,
) -> None:
    """Show all that would be asked about the first prompts or pairs, step by step. Buys nothing unless told to --ask.

    Example: reward-distiller preview configs/openai-teacher.yaml -n 1
    """
    settings = load_run(config, overrides or [])
    show_seen(previewed(settings, parts_of(settings), count, ask=ask), as_json)


def show_seen(seen: Sequence[Seen], as_json: bool) -> None:
    show([_row(each) for each in seen], "\n".join(map(_text, seen)), as_json)


def _row(seen: Seen) -> dict[str, Any]:
    row = asdict(seen)
    if isinstance(seen, Exchange):
        row["value"] = _of(seen) if seen.answers and not seen.reason else None
    return row


def _text(seen: Seen) -> str:
    lines = _lines(seen) if isinstance(seen, Exchange) else [seen.text]
    about = seen.model if isinstance(seen, Exchange) else seen.about
    lines.insert(0, f"=== {seen.step}: {', '.join(filter(None, (about, seen.record)))}")
    return "\n".join(printable(line) for text in lines for line in text.split("\n")) + "\n"


def _lines(exchange: Exchange) -> list[str]:
    times = f" (asked {exchange.times} times)" if exchange.times > 1 else ""
    lines = [json.dumps(exchange.request, ensure_ascii=False) + times]
    for message in exchange.messages:
        lines += [f"--- {message['role']}", message["content"]]
    if not exchange.answers:
        lines.append(f"--- no answer: {exchange.reason if exchange.source == 'bought now' else exchange.source}")
    for answer in exchange.answers:
        lines += [f"--- came back ({exchange.source})", answer]
    if exchange.answers:
        lines += [f"--- cannot be read: {exchange.reason}"] if exchange.reason else ["--- read as", _of(exchange)]
    return lines


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
