"""The testbed's scripted chat models: two teachers and four candidates, behind the chat-completions format.

`reply` is a pure function from a request to a response body. It reads the very prompts that a real
teacher gets, and its answers go through the very same parsers. All randomness comes from a hash of the
question, and the world's parameters travel in the request's `testbed` field, so that they are part of
the ledger's key. What a request says of its answer's form (log-probabilities, JSON) changes no draw.
Does not know who asks, or why.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from reward_distiller.config import ChatModel
from reward_distiller.records import content_id
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.testbed.chances import Drawn, log_probabilities
from reward_distiller.testbed.language import STYLES
from reward_distiller.testbed.minds import TEACHERS
from reward_distiller.testbed.structured import schema_properties
from reward_distiller.testbed.teachers import TEACHER_DEFAULTS, teach, world_of

# name -> (chance that an item is right, weights of the styles): style goes with skill, as in real models.
CANDIDATES: dict[str, tuple[float, tuple[float, float, float]]] = {
    "novice": (0.45, (0.75, 0.20, 0.05)),
    "learner": (0.60, (0.45, 0.40, 0.15)),
    "adept": (0.75, (0.15, 0.45, 0.40)),
    "expert": (0.90, (0.05, 0.25, 0.70)),
}
MODELS = (*TEACHERS, *CANDIDATES)
CANDIDATE_DEFAULTS = {"seed": 0, "style_bias": 1.0}
OF_FORM = {"logprobs", "top_logprobs", "response_format"}  # fields of a request that say how to answer, not what
SPLIT_TEN = "split_ten"  # another such, in `testbed`: 1 has the grade 10 as two tokens


class ScriptedTransport:
    """Answers requests in process, where an HTTP transport would send them."""

    async def send(self, model: ChatModel, request: dict[str, Any]) -> bytes:
        return reply(request)

    async def close(self) -> None:
        return None


def reply(request: dict[str, Any]) -> bytes:
    """A chat completion for a chat-completions request.

    Raises Refused for a model that the testbed has not, and for a schema that no answer fits.
    """
    name, messages, question = request["model"], request["messages"], _question(request)
    identity, options = content_id(question), question.get("testbed", {})
    split_ten = request.get("testbed", {}).get(SPLIT_TEN, 0) == 1
    rng = random.Random(f"reply:{identity}")
    drawn: Sequence[Drawn] = ()
    if name in TEACHERS:
        text, drawn = teach(TEACHERS[name], messages, {**TEACHER_DEFAULTS, **options}, rng, schema_properties(request))
    elif name in CANDIDATES:
        text = _attempt(name, messages, {**CANDIDATE_DEFAULTS, **options}, rng)
    else:
        raise Refused(f"the testbed has no model {name!r}; it has {', '.join(MODELS)}")
    logprobs = None
    if request.get("logprobs"):
        logprobs = log_probabilities(text, drawn, request.get("top_logprobs") or 0, split_ten)
    return completion_body(name, text, sum(len(m["content"].split()) for m in messages), identity, logprobs)


def _question(request: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the answer: a request without what it says of the answer's form."""
    question = {name: value for name, value in request.items() if name not in OF_FORM}
    if SPLIT_TEN in question.get("testbed", {}):
        rest = {name: value for name, value in question.pop("testbed").items() if name != SPLIT_TEN}
        question |= {"testbed": rest} if rest else {}
    return question


def completion_body(
    model: str, text: str, prompt_tokens: int, identity: str, logprobs: dict[str, Any] | None = None
) -> bytes:
    count = len(text.split())
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count, "total_tokens": prompt_tokens + count}
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    body = {"id": f"chatcmpl-{identity}", "object": "chat.completion", "created": 0, "model": model}
    return json.dumps(body | {"choices": [choice], "usage": usage}, ensure_ascii=False).encode()


def _attempt(name: str, messages: list[dict[str, str]], options: dict[str, Any], rng: random.Random) -> str:
    world = world_of(options["seed"])
    task = world.read(messages[-1]["content"])
    if task is None:
        return "i am not sure what you mean ."
    skill, weights = CANDIDATES[name]
    bias = options["style_bias"]
    items = world.right_items(task, rng)
    for at in range(len(items)):
        if rng.random() > skill:
            items[at] = world.wrong_item(task, items, at, rng)
    mixed = [bias * w + (1 - bias) / len(STYLES) for w in weights]
    return world.respond(task, items, rng.choices(STYLES, mixed)[0], rng)
