"""Endpoints of a config: keys set, servers there, models known to them. GET alone, so nothing is asked of a model.

A key goes to the URL that the config names it for, and into no message; nor does what a server says.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

from reward_distiller.config import AnyRun, ChatModel, RewardSource
from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.recipes.doctor.findings import Finding, ok, problem, warning
from reward_distiller.recipes.doctor.runs import sections
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.http_client import HttpClient, Reply, Retry

TIMEOUT = 10.0  # seconds; a list of models is a small thing


def check_endpoints(run: AnyRun) -> Iterator[Finding]:
    for place, model in sections(run, ChatModel):
        for name, at in model.places.items():
            yield _chat_model(f"{place} {model.model} at {name}", at)
    for place, source in sections(run, RewardSource):
        if source.url is not None:
            yield _reward_server(f"{place} at {source.url}", source.url, source.token_env)


def _chat_model(check: str, model: ChatModel) -> Finding:
    if model.is_testbed:
        return ok(check, "scripted, in this process")
    try:
        check_environment(model)
    except ConfigError as error:
        return problem(check, str(error))
    if model.launch:
        return _program(check, model.launch_command[0])
    reply = _get(model, "models")
    if isinstance(reply, str):
        return problem(check, reply, "Start the server, or mend base_url")
    key = f"{model.api_key_env} is set" if model.api_key_env else "no key"
    if reply.status in (401, 403):
        given = f"the key in {model.api_key_env}" if model.api_key_env else "requests without a key"
        return problem(check, f"rejects {given} (HTTP {reply.status})", "Mend the key, or set api_key_env")
    if reply.status >= 500:
        return problem(check, f"HTTP {reply.status}", "The server is not well, or still loads; wait and look again")
    names = _models(reply)
    if names is None:
        return warning(
            check,
            f"there, {key}, but its list of models cannot be read (HTTP {reply.status})",
            "Check base_url; it ends before /chat/completions",
        )
    if model.model not in names:
        known = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return warning(check, f"there, {key}, but it lists {known or 'no model'}", "Check the model's name")
    return ok(check, f"there, {key}, and knows the model")


def _program(check: str, program: str) -> Finding:
    if shutil.which(program) is None:
        return problem(check, f"the program {program!r} is not there", "Install vLLM, or name it in launch_command")
    return ok(check, f"is started with {program} when it is first asked")


def _reward_server(check: str, url: str, token_env: str | None) -> Finding:
    if token_env is not None and not os.environ.get(token_env):
        return problem(check, f"the environment variable {token_env} is not set", "Set it, then run again")
    parts = urlsplit(url)
    reply = _get(ChatModel(model="reward", base_url=f"{parts.scheme}://{parts.netloc}"), "health")
    if isinstance(reply, str):
        return problem(check, reply, "Start the server, or mend url")
    if reply.status >= 500:
        return problem(check, f"HTTP {reply.status}", "The server is not well, or still loads; wait and look again")
    return ok(check, "there")


def _get(model: ChatModel, path: str) -> Reply | str:
    """The reply, or why there is none."""

    async def get() -> Reply:
        client = HttpClient()
        try:
            return await client.request(place, "GET", path)
        finally:
            await client.close()

    place = model.model_copy(update={"timeout": min(TIMEOUT, model.timeout)})
    try:
        return asyncio.run(get())
    except (Retry, EndpointError) as error:
        return f"cannot be reached ({error})"


def _models(reply: Reply) -> list[str] | None:
    """The ids of an OpenAI-compatible list of models; None for anything else."""
    if reply.status != 200:
        return None
    try:
        return [str(each["id"]) for each in json.loads(reply.body)["data"]]
    except (ValueError, KeyError, TypeError):
        return None
