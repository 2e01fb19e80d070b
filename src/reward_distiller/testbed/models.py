"""The testbed's scripted chat models: a teacher and four candidates, behind the chat-completions format.

`reply` is a pure function from a request to a response body. It reads the very prompts that a real
teacher gets, and its answers go through the very same parsers. All randomness comes from a hash of the
request, and the world's parameters travel in the request's `testbed` field, so that they are part of
the ledger's key. Does not know who asks, or why.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import Levenshtein

from reward_distiller.config import ChatModel
from reward_distiller.records import content_id
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.testbed.language import STYLES, Task, World

# name -> (chance that an item is right, weights of the styles): style goes with skill, as in real models.
CANDIDATES: dict[str, tuple[float, tuple[float, float, float]]] = {
    "novice": (0.45, (0.75, 0.20, 0.05)),
    "learner": (0.60, (0.45, 0.40, 0.15)),
    "adept": (0.75, (0.15, 0.45, 0.40)),
    "expert": (0.90, (0.05, 0.25, 0.70)),
}
TEACHER = "teacher"
SLIP = 0.05  # chance that a refinement leaves a wrong item as it is
OVERSIGHT = 0.6  # chance, times likeness, that two responses shown side by side look equally good (paper, B.1)
LONG = 15  # words beyond the items at which the verbosity bias is full
TEACHER_DEFAULTS = {"seed": 0, "verbosity_bias": 0.8, "position_bias": 0.3, "noise": 0.8, "garble": 0.005}
CANDIDATE_DEFAULTS = {"seed": 0, "style_bias": 1.0}


class ScriptedTransport:
    """Answers requests in process, where an HTTP transport would send them."""

    async def send(self, model: ChatModel, request: dict[str, Any]) -> bytes:
        return reply(request)

    async def close(self) -> None:
        return None


def reply(request: dict[str, Any]) -> bytes:
    """A chat completion for a chat-completions request. Raises Refused for a model that the testbed has not."""
    name, messages = request["model"], request["messages"]
    rng = random.Random(f"reply:{content_id(request)}")
    if name == TEACHER:
        text = _teach(messages, {**TEACHER_DEFAULTS, **request.get("testbed", {})}, rng)
    elif name in CANDIDATES:
        text = _attempt(name, messages, {**CANDIDATE_DEFAULTS, **request.get("testbed", {})}, rng)
    else:
        raise Refused(f"the testbed has no model {name!r}; it has {', '.join([TEACHER, *CANDIDATES])}")
    return completion_body(name, text, sum(len(m["content"].split()) for m in messages), content_id(request))


def completion_body(model: str, text: str, prompt_tokens: int, identity: str) -> bytes:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(text.split())}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"id": f"chatcmpl-{identity}", "object": "chat.completion", "created": 0, "model": model}
    return json.dumps(body | {"choices": [choice], "usage": usage}, ensure_ascii=False).encode()


@lru_cache(maxsize=4)
def world_of(seed: int) -> World:
    return World(seed)


# -- candidates -------------------------------------------------------------------------------------


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


# -- teacher ----------------------------------------------------------------------------------------


def _teach(messages: list[dict[str, str]], options: dict[str, Any], rng: random.Random) -> str:
    world = world_of(options["seed"])
    last = messages[-1]["content"]
    job: Callable[[], str]
    if len(messages) >= 3 and "<rejected_response" in messages[0]["content"]:
        job = lambda: _calibrate(world, messages, options, rng)  # noqa: E731
    elif "<rejected_response" in last:
        job = lambda: _refine(world, last, rng)  # noqa: E731
    elif "<response_1" in last:
        job = lambda: _score_pair(world, last, options, rng)  # noqa: E731
    else:
        return _answer(world, last, rng)
    if rng.random() < options["garble"]:
        return "i would say that both have their merits ."
    return job()


def _answer(world: World, prompt: str, rng: random.Random) -> str:
    task = world.read(prompt)
    if task is None:
        return "i am not sure what you mean ."
    return world.respond(task, world.right_items(task, rng), rng.choice(STYLES), rng)


def _score_pair(world: World, text: str, options: dict[str, Any], rng: random.Random) -> str:
    """Graded quality with noise, a verbosity bias, a position bias, and an eye that overlooks small edits."""
    prompt, responses = _inside(text, "question"), [_inside(text, "response_1"), _inside(text, "response_2")]
    qualities = [_points(world.quality(prompt, r)) for r in responses]
    likeness = Levenshtein.normalized_similarity(*responses) ** 2
    if rng.random() < OVERSIGHT * likeness:
        qualities = [sum(qualities) / 2] * 2
    scores = []
    for place, (quality, response) in enumerate(zip(qualities, responses, strict=True)):
        wordy = min(1.0, world.excess_words(prompt, response) / LONG)
        score = quality + options["verbosity_bias"] * wordy + options["position_bias"] * (place == 0)
        scores.append(_clamp(score + rng.gauss(0, options["noise"])))
    return f"{scores[0]} {scores[1]}"


def _refine(world: World, text: str, rng: random.Random) -> str:
    """Replace wrong items in place; every other word of the rejected response stays."""
    prompt, rejected = _inside(text, "question"), _inside(text, "rejected_response")
    mark = _mark(text, "rejected_response")
    task = world.read(prompt)
    edited, reasons = (rejected, []) if task is None else _repair(world, task, rejected, rng)
    reasoning = f"it is worse because {' ; '.join(reasons)} ." if reasons else "it has no fault that i can name ."
    return (
        f"<reasoning{mark}>\n{reasoning}\n</reasoning{mark}>\n"
        f"<edited_response{mark}>\n{edited}\n</edited_response{mark}>"
    )


def _repair(world: World, task: Task, rejected: str, rng: random.Random) -> tuple[str, list[str]]:
    items = world.items(rejected)
    if len(items) != task.count:
        return world.respond(task, world.right_items(task, rng), rng.choice(STYLES), rng), ["parts are missing"]
    repaired, reasons = list(items), []
    for at, right in enumerate(world.judge_items(task, items)):
        if not right and rng.random() >= SLIP:
            spare = [w for w in world.right_items(task, rng) if w not in repaired] or [items[at]]
            repaired[at] = spare[0] if task.kind == "choose" else world.right_items(task, rng)[at]
            reasons.append(f"{items[at]} should be {repaired[at]}")
    queue = iter(repaired)
    words = re.split(r"(\s+)", rejected)
    return "".join(next(queue) if w in world.lexicon and w not in world.facts else w for w in words), reasons


def _calibrate(world: World, messages: list[dict[str, str]], options: dict[str, Any], rng: random.Random) -> str:
    """The anchor plus what the edit achieved: with diagnosis and outcome in view, little noise is left."""
    prompt, rejected = _inside(messages[0]["content"], "question"), _inside(messages[0]["content"], "rejected_response")
    anchor = float(re.findall(r"[0-9]+(?:\.[0-9]+)?", messages[-1]["content"])[-1])
    edited = _inside(messages[1]["content"], "edited_response")
    gain = _points(world.quality(prompt, edited)) - _points(world.quality(prompt, rejected))
    return str(_clamp(anchor + gain + rng.gauss(0, options["noise"] / 3)))


def _points(quality: float) -> float:
    """Quality in [0, 1] on the teacher's scale from 1 to 10."""
    return 1 + 9 * quality


def _clamp(score: float) -> int:
    return max(1, min(10, round(score)))


def _mark(text: str, tag: str) -> str:
    found = re.search(rf"^<{tag}((?:-[0-9]+)?)>$", text, re.MULTILINE)
    return found[1] if found else ""


def _inside(text: str, tag: str) -> str:
    mark = _mark(text, tag)
    return text.partition(f"<{tag}{mark}>\n")[2].partition(f"\n</{tag}{mark}>")[0]
