"""`reward-distiller score`: rewards for the rows of a file."""

from __future__ import annotations

from typing import Annotated

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.options import AsJson, show
from reward_distiller.config import load_config
from reward_distiller.recipes.critics import teacher_critic
from reward_distiller.recipes.scoring import score_file


def score(
    model: Annotated[str, typer.Argument(help="folder or Hub id of a reward model, ours or not")],
    input: Annotated[
        str, typer.Option(help='rows {"prompt": text or messages, "responses": [text, ...], maybe "critiques": [...]}')
    ],
    output: Annotated[str, typer.Option(help="the same rows with rewards added")],
    teacher: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="its teacher writes the critiques that the model reads")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="tokens; longer responses are an error")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    chat_template: Annotated[str | None, typer.Option(help="file, for checkpoints that carry none")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="run code that comes with the model")] = False,
    as_json: AsJson = False,
) -> None:
    """Add `rewards` to rows of prompts and responses.

    Example: reward-distiller score runs/mine/model --input rows.jsonl --output scored.jsonl
    """
    settings = load_config(teacher) if teacher else None
    count = score_file(
        model,
        input,
        output,
        max_length=max_length,
        device=device,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
        critic=teacher_critic(settings, parts_of(settings)) if settings else None,
    )
    show({"rows": count, "file": output}, f"{count} rows: {output}", as_json)
