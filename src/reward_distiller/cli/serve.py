"""`serve`: a reward model over HTTP."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from reward_distiller.console import say
from reward_distiller.errors import ConfigError, MissingExtra


def serve(
    model: Annotated[str, typer.Argument(help="folder or Hub id of a reward model, ours or not")],
    host: Annotated[str, typer.Option(help="address to listen at; 0.0.0.0 is all")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 finds a free one")] = 8000,
    token_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="environment variable with the bearer token to ask for")
    ] = None,
    name: Annotated[str | None, typer.Option(help="what clients may call the model; MODEL itself, if unset")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="tokens; longer chats are refused, not cut")] = None,
    max_responses: Annotated[int, typer.Option(min=1, help="in one request")] = 256,
    max_queue: Annotated[int, typer.Option(min=1, help="responses in all; then 503")] = 4096,
    max_body_mb: Annotated[int, typer.Option(min=1, help="MiB of one request; then 413")] = 8,
    batch_tokens: Annotated[int, typer.Option(min=1, help="of requests that are scored together")] = 16384,
    stop_seconds: Annotated[float, typer.Option(min=0, help="for what is under way, once told to stop")] = 30.0,
    threads: Annotated[int | None, typer.Option(min=1, help="of the CPU; all cores, if unset")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    chat_template: Annotated[str | None, typer.Option(help="file, for checkpoints that carry none")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="run code that comes with the model")] = False,
) -> None:
    """Serve rewards in vLLM's, OpenRLHF's and our own format, until SIGTERM or Ctrl-C.

    Example: REWARD_TOKEN=... reward-distiller serve runs/mine/model --port 8000 --token-env REWARD_TOKEN
    """
    token = os.environ.get(token_env) if token_env else None
    if token_env and not token:
        raise ConfigError(f"the environment variable {token_env} is not set. Set it, then run again")
    if max_queue < max_responses:
        raise ConfigError(f"--max-queue {max_queue} has no room for --max-responses {max_responses}. Raise it")
    try:
        from reward_distiller.serve.app import make_app
        from reward_distiller.serve.core import Limits
        from reward_distiller.serve.server import Server, run
    except ImportError as error:
        raise MissingExtra(error.name or "fastapi", "serve") from error
    from reward_distiller.model.reward_model import RewardModel

    if token is None and host not in ("127.0.0.1", "localhost", "::1"):
        say(f"serve: {host} is open to others, and asks for no token. Name one with --token-env")
    loaded = RewardModel.from_pretrained(
        model,
        device=device,
        max_length=max_length,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
    )
    limits = Limits(max_responses, max_queue, batch_tokens, max_body_mb * 2**20)
    run(Server(make_app(loaded, name or model, limits, token=token, threads=threads), host, port, stop_seconds))
