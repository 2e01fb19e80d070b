"""The scripted teachers at work: what each prompt is answered with.

A teacher reads the very prompts that a real one gets; `minds` says how it errs. All randomness is the caller's. Knows
no requests and no networks.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rapidfuzz.distance import Levenshtein

from reward_distiller.testbed.chances import Drawn
from reward_distiller.testbed.language import (
    FLATTERY,
    NO_TASK,
    PARTS_MISSING,
    PARTS_TOO_MANY,
    REMARKS,
    STYLES,
    Task,
    World,
)
from reward_distiller.testbed.minds import Teacher, Traits, put_fault
from reward_distiller.testbed.structured import as_json

FIRM = 0.85  # of the answers to a prompt at which a teacher is misled
RESTYLES_WORSE, RESTYLES_BETTER = 0.5, 0.8  # shares of rewritings that change the style as well
OF_QUALITY, OF_LENGTH = ("correct", "truth", "honest"), ("verbos", "detail", "complex")  # parts of attributes' names
LONG = 15  # words beyond the items at which the verbosity bias is full
TEACHER_DEFAULTS = {"seed": 0, "verbosity_bias": 0.8, "position_bias": 0.3, "noise": 0.8, "garble": 0.005}


@lru_cache(maxsize=4)
def world_of(seed: int) -> World:
    return World(seed)


def teach(
    traits: Traits,
    messages: list[dict[str, str]],
    options: dict[str, Any],
    rng: random.Random,
    properties: Mapping[str, Any] | None,
) -> tuple[str, Sequence[Drawn]]:
    """The answer and what was drawn for it.

    What the first turn asks for is told by a tag that only this prompt has; without one, it is a plain question.
    A garbled answer keeps no form, that of a schema as little as any other.
    """
    first = messages[0]["content"]
    mark = _mark(first)
    job = None if mark is None else next((j for tag, j in JOBS.items() if f"\n<{tag}{mark}>\n" in first), None)
    teacher = Teacher(
        world_of(options["seed"]),
        noise=options["noise"] * traits.noise,
        verbosity_bias=options["verbosity_bias"] * traits.verbosity,
        position_bias=options["position_bias"] * traits.position,
        traits=traits,
    )
    if job is None:
        text = _answer(teacher, messages[-1]["content"], rng)
    elif rng.random() < options["garble"]:
        return job.garbled, ()
    else:
        text = job.do(teacher, [m["content"] for m in messages], rng)
    return text if properties is None else as_json(text, properties), teacher.drawn


def _answer(teacher: Teacher, prompt: str, rng: random.Random) -> str:
    """Right, or with one wrong item: by chance, or always the same one at a prompt at which the teacher is misled."""
    world, traits = teacher.world, teacher.traits
    task = world.read(prompt)
    if task is None:
        return "i am not sure what you mean ."
    items = world.right_items(task, rng)
    believed = teacher.belief(prompt, task)
    if believed is not None:
        items = believed if rng.random() < FIRM else items
    elif traits.error and rng.random() < traits.error:
        put_fault(world, task, items, rng)
    return world.respond(task, items, rng.choice(STYLES), rng)


def _score_pair(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    first, second = _grades(teacher, turns[-1], ("response_1", "response_2"), rng)
    return f"{first} {second}"


def _grades(teacher: Teacher, text: str, tags: tuple[str, str], rng: random.Random) -> tuple[int, int]:
    """Graded quality with noise, a verbosity bias, a position bias, and an eye that overlooks small edits."""
    prompt, responses = _inside(text, "question"), [_inside(text, tag) for tag in tags]
    qualities = [_points(teacher.quality(prompt, r)) for r in responses]
    likeness = Levenshtein.normalized_similarity(*responses) ** 2
    if rng.random() < teacher.traits.oversight * likeness:
        qualities = [sum(qualities) / 2] * 2
    scores = []
    for place, (quality, response) in enumerate(zip(qualities, responses, strict=True)):
        score = quality + teacher.verbosity_bias * _wordiness(teacher.world, prompt, response)
        scores.append(teacher.blurred(score + teacher.position_bias * (place == 0), rng))
    return scores[0], scores[1]


def _judge_scores(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    first, second = _grades(teacher, turns[-1], ("scored_response_1", "scored_response_2"), rng)
    return _verdict(turns[-1], f"i give {first} to the first and {second} to the second .", f"{first} {second}")


def _judge_ranking(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    first, second = _grades(teacher, turns[-1], ("ranked_response_a", "ranked_response_b"), rng)
    better = "tie" if first == second else "A" if first > second else "B"
    if not _reasons(turns[-1]):
        teacher.only_says("A", "B", "tie")
    return _verdict(turns[-1], f"i give {first} to a and {second} to b .", better)


def _judge_alone(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    """As side by side, less what comes of standing beside another response."""
    prompt, response = _inside(turns[-1], "question"), _inside(turns[-1], "scored_response")
    points = _points(teacher.quality(prompt, response))
    grade = teacher.blurred(points + teacher.verbosity_bias * _wordiness(teacher.world, prompt, response), rng)
    return _verdict(turns[-1], f"i give {grade} to it .", str(grade))


def _judge_as_gram(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    return _letter(teacher, turns, ("gram_response_a", "gram_response_b"), rng)


def _judge_preference(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    return _letter(teacher, turns, ("preferred_response_a", "preferred_response_b"), rng)


def _letter(teacher: Teacher, turns: list[str], tags: tuple[str, str], rng: random.Random) -> str:
    """One letter; equal grades are decided by a coin."""
    first, second = _grades(teacher, turns[-1], tags, rng)
    teacher.only_says("A", "B", None)
    return rng.choice("AB") if first == second else "A" if first > second else "B"


def _judge_as_judgelrm(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    first, second = _grades(teacher, turns[-1], ("judgelrm_response_1", "judgelrm_response_2"), rng)
    return f"<think> i compared them . </think>\n<answer>{first}</answer><answer>{second}</answer>"


def _verdict(text: str, reasoning: str, verdict: str) -> str:
    """The verdict, behind the reasoning where the prompt asks for that."""
    if not _reasons(text):
        return verdict
    mark = _mark(text)
    return f"<reasoning{mark}>\n{reasoning}\n</reasoning{mark}>\n<verdict{mark}>\n{verdict}\n</verdict{mark}>"


def _reasons(text: str) -> bool:
    """Whether the prompt asks a judge for its reasoning."""
    return f"\n<verdict{_mark(text)}>\n" in text


def _refine_or_calibrate(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    return _refine(teacher, turns, rng) if len(turns) < 3 else _calibrate(teacher, turns, rng)


def _refine(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    """Replace wrong items in place; every other word of the rejected response stays."""
    text, world = turns[-1], teacher.world
    prompt, rejected = _inside(text, "question"), _inside(text, "rejected_response")
    mark = _mark(text)
    task = world.read(prompt)
    edited, reasons = (rejected, []) if task is None else _repair(teacher, prompt, task, rejected, rng)
    reasoning = f"it is worse because {' ; '.join(reasons)} ." if reasons else "it has no fault that i can name ."
    return (
        f"<reasoning{mark}>\n{reasoning}\n</reasoning{mark}>\n"
        f"<edited_response{mark}>\n{edited}\n</edited_response{mark}>"
    )


def _repair(teacher: Teacher, prompt: str, task: Task, rejected: str, rng: random.Random) -> tuple[str, list[str]]:
    world = teacher.world
    items = world.items(rejected)
    if len(items) != task.count:
        true = world.right_items(task, rng)
        whole = world.respond(task, teacher.belief(prompt, task) or true, rng.choice(STYLES), rng)
        return whole, ["parts are missing"]
    repaired, reasons = list(items), []
    for at, right in enumerate(teacher.judge_items(prompt, task, items)):
        if not right and rng.random() >= teacher.traits.slip:
            repaired[at] = teacher.right_item(prompt, task, repaired, at, rng)
            reasons.append(f"{items[at]} should be {repaired[at]}")
    return _with_items(world, rejected, repaired), reasons


def _with_items(world: World, response: str, items: list[str]) -> str:
    """The response with its items replaced in their order; every other word stays."""
    queue = iter(items)
    words = re.split(r"(\s+)", response)
    return "".join(next(queue) if w in world.lexicon and w not in world.facts else w for w in words)


def _calibrate(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    """The anchor plus what the edit achieved: with diagnosis and outcome in view, little noise is left."""
    prompt, rejected = _inside(turns[0], "question"), _inside(turns[0], "rejected_response")
    anchor = float(re.findall(r"[0-9]+(?:\.[0-9]+)?", turns[-1])[-1])
    edited = _inside(turns[1], "edited_response", _mark(turns[0]))
    gain = _points(teacher.quality(prompt, edited)) - _points(teacher.quality(prompt, rejected))
    return str(teacher.blurred(anchor + gain, rng, 3))


def _critique(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    """Names wrong items, overlooks some, takes some right one for wrong; begins with style, and flatters length."""
    world, traits = teacher.world, teacher.traits
    prompt, response = _inside(turns[-1], "question"), _inside(turns[-1], "reviewed_response")
    task = world.read(prompt)
    if task is None:
        return NO_TASK
    flattered = rng.random() < teacher.verbosity_bias * _wordiness(world, prompt, response)
    remark = rng.choice(FLATTERY if flattered else REMARKS[world.style(response)])
    items = world.items(response)
    if len(items) != task.count:
        return f"{remark} {PARTS_MISSING if len(items) < task.count else PARTS_TOO_MANY}"
    shown, faults = list(items), []
    for at, right in enumerate(teacher.judge_items(prompt, task, items)):
        if not right and rng.random() >= traits.overlook:
            shown[at] = teacher.right_item(prompt, task, shown, at, rng)
        elif right and rng.random() < traits.false_alarm:
            shown[at] = world.wrong_item(task, items, at, rng)
        if shown[at] != items[at]:
            faults.append((items[at], shown[at]))
    return world.critique(remark, faults)


def _score_attributes(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    """A grade for each attribute: of quality, of length, or of both as for the overall grade, as its name says."""
    prompt, response = _inside(turns[-1], "question"), _inside(turns[-1], "rated_response")
    quality = _points(teacher.quality(prompt, response))
    wordy = _wordiness(teacher.world, prompt, response)
    names = re.findall(r"^([a-z_]+): score$", turns[-1].rpartition("</rated_response")[2], re.MULTILINE)
    lines = []
    for name in names:
        if any(part in name for part in OF_QUALITY):
            points = quality
        elif any(part in name for part in OF_LENGTH):
            points = _points(wordy)
        else:
            points = quality + teacher.verbosity_bias * wordy
        lines.append(f"{name}: {teacher.blurred(points, rng)}")
    return "\n".join(lines)


def _rewrite(teacher: Teacher, turns: list[str], rng: random.Random) -> str:
    """Worse: wrong items, and at times another style. Better: nothing wrong that it sees, and more words."""
    text, world = turns[-1], teacher.world
    prompt, response = _inside(text, "question"), _inside(text, "original_response")
    mark = _mark(text)
    task = world.read(prompt)
    if task is not None:
        worse = re.search(r"\bworse\b", text.partition("<question")[0]) is not None
        edited = _spoil if worse else _polish
        response = edited(teacher, prompt, task, response, rng)
    return f"<rewritten_response{mark}>\n{response}\n</rewritten_response{mark}>"


def _spoil(teacher: Teacher, prompt: str, task: Task, response: str, rng: random.Random) -> str:
    world = teacher.world
    items = world.items(response)
    places = [at for at, right in enumerate(teacher.judge_items(prompt, task, items)) if right]
    if len(items) != task.count or not places:
        return response
    for at in rng.sample(places, min(len(places), rng.randint(1, 2))):
        items[at] = world.wrong_item(task, items, at, rng)
    if rng.random() < RESTYLES_WORSE:
        return world.respond(task, items, rng.choice(STYLES), rng)
    return _with_items(world, response, items)


def _polish(teacher: Teacher, prompt: str, task: Task, response: str, rng: random.Random) -> str:
    world = teacher.world
    response, _ = _repair(teacher, prompt, task, response, rng)
    if rng.random() < RESTYLES_BETTER:
        return world.respond(task, world.items(response), rng.choice(STYLES[1:]), rng)
    return response


@dataclass(frozen=True)
class Job:
    """What a teacher does when asked, and the answer that keeps no format: one that no parser takes."""

    do: Callable[[Teacher, list[str], random.Random], str]
    garbled: str = "i would say that both have their merits ."


JOBS = {  # the tag that tells a prompt from the others -> what it asks for
    "rejected_response": Job(_refine_or_calibrate),
    "response_1": Job(_score_pair),
    "reviewed_response": Job(_critique, garbled=""),  # any other text is a critique
    "rated_response": Job(_score_attributes),
    "original_response": Job(_rewrite),
    "scored_response_1": Job(_judge_scores),
    "ranked_response_a": Job(_judge_ranking),
    "scored_response": Job(_judge_alone),
    "gram_response_a": Job(_judge_as_gram),
    "judgelrm_response_1": Job(_judge_as_judgelrm),
    "preferred_response_a": Job(_judge_preference),
}


def _points(quality: float) -> float:
    """Quality in [0, 1] on the teacher's scale from 1 to 10."""
    return 1 + 9 * quality


def _wordiness(world: World, prompt: str, response: str) -> float:
    """Verbosity in [0, 1]."""
    return min(1.0, world.excess_words(prompt, response) / LONG)


def _mark(text: str) -> str | None:
    """The mark of a prompt's tags, read off the question's, which comes before all data. None where there is none."""
    found = re.search(r"^<question((?:-[0-9]+)?)>$", text, re.MULTILINE)
    return found[1] if found else None


def _inside(text: str, tag: str, mark: str | None = None) -> str:
    mark = (_mark(text) or "") if mark is None else mark
    return text.partition(f"<{tag}{mark}>\n")[2].partition(f"\n</{tag}{mark}>")[0]
