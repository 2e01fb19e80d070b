"""The routes: from each wire format to the core and back. Thin, so that all of them give the same reward.

Knows formats and statuses; templates and tokens are the model's, waiting and batching the core's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import jinja2
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reward_distiller import __version__
from reward_distiller.errors import RewardDistillerError
from reward_distiller.model.chat import Encoded, first_line
from reward_distiller.model.rendered import Rendered
from reward_distiller.model.reward_model import RewardModel, TooLong
from reward_distiller.serve.core import Core, Limits, Scored
from reward_distiller.serve.gate import ClientLeft, Gate
from reward_distiller.serve.metrics import CONTENT_TYPE, Metrics
from reward_distiller.serve.refusals import Refused
from reward_distiller.serve.wire import (
    ClassifyItem,
    ClassifyReply,
    ClassifyRequest,
    GetRewardReply,
    GetRewardRequest,
    RewardsReply,
    RewardsRequest,
    Usage,
)


def sigmoid(reward: float) -> float:
    """Of a single label, as vLLM activates it."""
    return 1 / (1 + math.exp(-reward)) if reward >= 0 else math.exp(reward) / (1 + math.exp(reward))


class Faces:
    """What the routes do, on one core."""

    def __init__(self, core: Core, name: str):
        self.core, self.name, self.model = core, name, core.model
        config = self.model.classifiers[0].config
        self.label = (getattr(config, "id2label", None) or {}).get(0, "LABEL_0")
        self.rendered = Rendered(self.model.chat, config.get_text_config().vocab_size)

    async def rewards(self, body: RewardsRequest, request: Request) -> RewardsReply:
        prompt = body.prompt if isinstance(body.prompt, str) else [m.model_dump() for m in body.prompt]

        def encode() -> list[Encoded]:
            return self.model.encode(prompt, body.responses, body.critiques)

        return RewardsReply(rewards=(await self._score(request, len(body.responses), encode)).rewards)

    async def classify(self, body: ClassifyRequest, request: Request) -> ClassifyReply:
        self._reads_responses_alone()
        if body.model not in (None, self.name):
            raise Refused(404, "the model is not the one that is served here. Leave `model` out, or name that one")

        def encode() -> list[Encoded]:
            if body.messages is not None:
                *context, last = [m.model_dump() for m in body.messages]
                return self.model.encode(context, [last["content"]])
            special = body.add_special_tokens is not False
            texts = body.inputs()
            read = self.rendered
            return self._fitting([read.encode(t, special) if isinstance(t, str) else read.checked(t) for t in texts])

        count = 1 if body.messages is not None else len(body.inputs())
        scored = await self._score(request, count, encode)
        values = scored.rewards if body.use_activation is False else [sigmoid(r) for r in scored.rewards]
        return ClassifyReply(
            model=self.name,
            data=[ClassifyItem(index=at, label=self.label, probs=[value]) for at, value in enumerate(values)],
            usage=Usage(prompt_tokens=scored.tokens, total_tokens=scored.tokens),
        )

    async def get_reward(self, body: GetRewardRequest, request: Request) -> GetRewardReply:
        self._reads_responses_alone()

        def encode() -> list[Encoded]:
            return self._fitting([self.rendered.encode(self.rendered.closed(text)) for text in body.query])

        rewards = (await self._score(request, len(body.query), encode)).rewards
        return GetRewardReply(rewards=rewards, scores=[sigmoid(r) for r in rewards])

    def _reads_responses_alone(self) -> None:
        if self.model.need is not None:
            raise Refused(422, "this model reads a critique behind each response, which only /v1/rewards takes")

    def _fitting(self, sequences: list[Encoded]) -> list[Encoded]:
        for sequence in sequences:
            if len(sequence) > self.model.max_length:
                raise TooLong(f"a text makes {len(sequence)} tokens, over max_length={self.model.max_length}")
            if not sequence.ids:
                raise Refused(422, "a text is empty: there is no token to read a reward at")
        return sequences

    async def _score(self, request: Request, count: int, encode: Callable[[], list[Encoded]]) -> Scored:
        """Score, unless the client leaves meanwhile: then its places are free at once."""
        work = asyncio.create_task(self.core.score(count, encode))
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientLeft
            return await work
        except RewardDistillerError as error:
            raise Refused(422, str(error)) from None
        except jinja2.TemplateError as error:
            raise Refused(422, f"the chat template refuses this conversation: {first_line(error)}") from None
        finally:
            work.cancel()
            gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(
    model: RewardModel,
    name: str,
    limits: Limits | None = None,
    *,
    token: str | None = None,
    threads: int | None = None,
) -> Gate:
    """The whole application for any ASGI server. `name` is what clients may call the model; `token` is asked of them.

    Only /health, /metrics and the pages about the interface need no token.
    """
    limits = limits or Limits()
    metrics = Metrics()
    core = Core(model, limits, metrics, threads)
    faces = Faces(core, name)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with core.running():
            yield

    app = FastAPI(title="Reward Distiller", version=__version__, lifespan=lifespan, redoc_url=None)
    gate = Gate(app, metrics, limits.body_bytes, token)
    app.post("/v1/rewards", summary="Rewards of responses to one prompt")(faces.rewards)
    app.post("/classify", summary="As vLLM: one classification a chat")(faces.classify)
    app.post("/get_reward", summary="As OpenRLHF's remote reward model")(faces.get_reward)

    @app.get("/health", summary="200 while rewards are given, 503 while the server stops")
    async def health() -> JSONResponse:
        return JSONResponse(
            {"status": "stopping" if gate.draining else "ok", "model": name}, 503 if gate.draining else 200
        )

    @app.get("/metrics", summary="For Prometheus")
    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        """Where, and what is wrong there; not what was there."""
        found = error.errors()
        broken = any(e["type"] == "json_invalid" for e in found)
        says = "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in found[:3])
        return JSONResponse(Refused(400 if broken else 422, says[:500]).body, 400 if broken else 422)

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        """The gate logs its kind."""
        return JSONResponse(Refused(500, "the server failed in this request").body, 500)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(Refused(error.status_code, str(error.detail)).body, error.status_code, error.headers)

    return gate
