"""What a scripted teacher is: how it errs, what it firmly believes, and how it grades what it sees.

It knows the truth of its world, less the prompts at which it is misled. Knows no prompts of jobs (`teachers`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from reward_distiller.testbed.chances import Drawn, Grade, Preference
from reward_distiller.testbed.language import Task, World


@dataclass(frozen=True)
class Traits:
    """How a teacher errs: chances, and factors of what the world's settings say of teachers."""

    slip: float = 0.05  # that a refinement leaves a wrong item as it is
    oversight: float = 0.6  # times likeness: that two responses shown side by side look equally good (paper, B.1)
    overlook: float = 0.3  # that a critique does not name a wrong item
    false_alarm: float = 0.03  # that it names a right one
    noise: float = 1.0
    verbosity: float = 1.0
    position: float = 1.0
    error: float = 0.0  # that an answer of its own holds a wrong item
    misled: float = 0.0  # the share of prompts at which it firmly believes in a wrong item, whatever it is asked to do


TEACHER = "teacher"
TEACHERS = {
    TEACHER: Traits(),
    "teacher-b": Traits(slip=0.12, noise=1.5, verbosity=0.5, position=2.0),
    "fallible": Traits(noise=1.5, verbosity=2.0, error=0.12, misled=0.12),
}


@dataclass(frozen=True)
class Teacher:
    """A teacher at work on one answer: its world, its biases in points, and what it has drawn."""

    world: World
    noise: float
    verbosity_bias: float
    position_bias: float
    traits: Traits
    drawn: list[Drawn] = field(default_factory=list)

    def blurred(self, points: float, rng: random.Random, certainty: int = 1) -> int:
        """Points as a grade, with a certainty-th of the noise."""
        grade = Grade(points, self.noise / certainty)
        self.drawn.append(grade)
        return max(1, min(10, round(points + rng.gauss(0, grade.deviation))))

    def belief(self, prompt: str, task: Task) -> list[str] | None:
        """The items, one of them wrong, that it firmly believes in; None at a prompt at which it is not misled."""
        rng = random.Random(f"belief:{self.world.seed}:{prompt}")
        if rng.random() >= self.traits.misled:
            return None
        items = self.world.right_items(task, rng)
        put_fault(self.world, task, items, rng)
        return items

    def judge_items(self, prompt: str, task: Task, items: list[str]) -> list[bool]:
        """Which items it takes for right: the true ones, or those that it believes in."""
        true, believed = self.world.judge_items(task, items), self.belief(prompt, task)
        if believed is None:
            return true
        if task.kind == "choose":
            wrong = [w for w, right in zip(believed, self.world.judge_items(task, believed), strict=True) if not right]
            return [right or w in wrong for w, right in zip(items, true, strict=True)]
        return [w == believed[at] if at < len(believed) else False for at, w in enumerate(items)]

    def quality(self, prompt: str, response: str) -> float:
        """The world's quality, as far as it knows."""
        task = self.world.read(prompt)
        if task is None:
            return 0.0
        items = self.world.items(response)
        return sum(self.judge_items(prompt, task, items)) / max(task.count, len(items), 1)

    def right_item(self, prompt: str, task: Task, items: list[str], at: int, rng: random.Random) -> str:
        """What should stand in place `at`; where a task has several right answers, one that the items do not hold."""
        right = self.world.right_items(task, rng)
        if task.kind == "choose":
            return next((w for w in right if w not in items), items[at])
        return (self.belief(prompt, task) or right)[at]

    def only_says(self, first: str, second: str, neither: str | None) -> None:
        """The two grades drawn stay unsaid: a word tells which is higher."""
        a, b = (grade for grade in self.drawn if isinstance(grade, Grade))
        self.drawn[:] = [Preference(a, b, (first, second, neither))]


def put_fault(world: World, task: Task, items: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(items))
    items[at] = world.wrong_item(task, items, at, rng)
