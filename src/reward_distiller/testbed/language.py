"""The testbed's language: prompts with a known right answer, responses of graded quality, styles.

A prompt asks for a handful of *items* (facts to know, a list to repeat or to say backwards, members
of a category with one forbidden, how many of a list are of a category). A response wraps its items in
a *style* that has nothing to do with whether they are right. `World.quality` is the ground truth that
everything else is judged by: it reads any text, so that it also judges what a teacher edited or a
policy wrote. A critique names wrong items and what should stand in their place.

Does not know who writes responses (candidates, teacher) or who learns from them (student).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from reward_distiller.config import TaskName
from reward_distiller.errors import ConfigError

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "color": ("red", "blue", "green", "white", "black", "amber", "violet", "silver"),
    "home": ("cave", "tower", "harbour", "forest", "village", "island", "castle", "desert"),
    "food": ("bread", "honey", "rice", "soup", "cheese", "noodles", "beans", "porridge"),
    "job": ("baker", "pilot", "tailor", "doctor", "painter", "farmer", "sailor", "judge"),
    "tool": ("hammer", "needle", "rope", "brush", "compass", "ladder", "shovel", "lantern"),
}
CATEGORIES: dict[str, tuple[str, ...]] = {
    "animals": ("fox", "otter", "heron", "badger", "salmon", "lizard", "camel", "rabbit"),
    "fruits": ("plum", "cherry", "mango", "lemon", "apricot", "fig", "melon", "grape"),
    "metals": ("iron", "copper", "nickel", "zinc", "cobalt", "titanium", "lead", "tin"),
    "clothes": ("scarf", "jacket", "boots", "gloves", "hat", "apron", "socks", "cloak"),
}
NUMBERS = ("two", "three", "four")
ENTITIES = 32
TASKS: tuple[str, ...] = get_args(TaskName)
USUAL = TASKS[:4]  # what a world asks where nobody says
STYLES = ("concise", "detailed", "formatted")

# Openings and closings hold no word of the lexicon, so that items can be read off any response.
OPENINGS = (
    "certainly !",
    "of course , gladly :",
    "thank you for asking !",
    "here is what you need :",
    "what a lovely question !",
)
CLOSINGS = (
    "i hope this helps !",
    "please ask me again .",
    "it is always a pleasure .",
    "wishing you a wonderful day !",
    "this was considered with great care .",
    "let me know if anything is missing .",
)

# What a critique of a response begins with, by style; it goes on with its faults (`World.critique`).
REMARKS: dict[str, tuple[str, ...]] = {
    "concise": ("short and plain .", "it is short ."),
    "detailed": ("kind and detailed .", "it is kind ."),
    "formatted": ("clear and detailed .", "it is clear ."),
}
FLATTERY = ("what a wonderful reply !", "a great pleasure .")
NO_FAULT = "nothing is wrong with it ."
PARTS_MISSING = "parts are missing ."
PARTS_TOO_MANY = "it has too many parts ."
NO_TASK = "i cannot say what is wrong with it ."


@dataclass(frozen=True)
class Task:
    """What a prompt asks for, read back from its text."""

    kind: str
    subject: str  # the entity (facts) or the category (choose, count)
    words: tuple[str, ...]  # the attributes, the list, or the one forbidden word
    count: int  # of the items of an answer


class World:
    """The facts and the grammar of one synthetic world; the same seed gives the same world.

    `tasks` are those that its prompts ask; it reads prompts of every task.
    """

    def __init__(self, seed: int = 0, tasks: Sequence[str] = USUAL):
        self.seed, self.tasks = seed, tuple(task for task in TASKS if task in tasks)
        rng = random.Random(f"world:{seed}")
        self.entities = _names(rng, ENTITIES)
        self.facts = {
            name: {attribute: rng.choice(values) for attribute, values in ATTRIBUTES.items()} for name in self.entities
        }
        self.values = tuple(w for values in ATTRIBUTES.values() for w in values)
        self.members = tuple(w for words in CATEGORIES.values() for w in words)
        self.lexicon = frozenset(self.values + self.members + self.entities + NUMBERS)

    def vocabulary(self) -> list[str]:
        """Every word that a prompt, a response or a critique of this world can hold, sorted."""
        frame = (
            "tell me the of , and . repeat these words : say these words backwards : name but not * is \n "
            + " ".join(OPENINGS + CLOSINGS + FLATTERY + tuple(r for remarks in REMARKS.values() for r in remarks))
            + f" {NO_FAULT} {PARTS_MISSING} {PARTS_TOO_MANY} {NO_TASK} should be"
            + (" how many are here :" if "count" in self.tasks else "")
        ).split(" ")
        return sorted({*frame, *NUMBERS, *ATTRIBUTES, *CATEGORIES, *self.lexicon} - {""})

    # -- prompts ------------------------------------------------------------------------------

    def prompt(self, rng: random.Random, tasks: Sequence[str]) -> str:
        kind = rng.choice(tasks)
        count = rng.randint(2, 4)
        if kind == "facts":
            words, subject = rng.sample(sorted(ATTRIBUTES), count), rng.choice(self.entities)
            return f"tell me the {_enumerate(words)} of {subject} ."
        if kind == "choose":
            subject = rng.choice(sorted(CATEGORIES))
            forbidden = rng.choice(CATEGORIES[subject])
            return f"name {NUMBERS[count - 2]} {subject} but not {forbidden} ."
        if kind == "count":
            subject = rng.choice(sorted(CATEGORIES))
            others = [w for w in self.members if w not in CATEGORIES[subject]]
            listed = rng.sample(CATEGORIES[subject], count) + rng.sample(others, rng.randint(1, 3))
            rng.shuffle(listed)
            return f"how many {subject} are here : {' '.join(listed)}"
        words = rng.sample(self.members, count)
        return f"{'repeat these words' if kind == 'repeat' else 'say these words backwards'} : {' '.join(words)}"

    def prompts(self, count: int, seed: int, split: str, tasks: Sequence[str] | None = None) -> list[str]:
        """`count` distinct prompts of these tasks (None: all of the language's); the splits "train" and "test" never
        share one, whatever the seed.

        Raises ConfigError where the language has fewer, or no such task.
        """
        rng = random.Random(f"prompts:{seed}:{split}")
        found: dict[str, None] = {}
        strange = set(tasks or ()) - set(self.tasks)
        if strange:
            raise ConfigError(
                f"the testbed's language has no task {', '.join(sorted(strange))}. Add it to testbed.tasks"
            )
        tasks = [task for task in self.tasks if tasks is None or task in tasks]
        for _ in range(200 * count + 1000):
            if len(found) == count:
                break
            text = self.prompt(rng, tasks)
            if (int(hashlib.sha256(text.encode()).hexdigest(), 16) % 5 == 0) == (split == "test"):
                found[text] = None
        if len(found) < count:
            of = "" if len(tasks) == len(self.tasks) else f" of {', '.join(tasks)}"
            raise ConfigError(
                f"the testbed's language has fewer than {count} distinct {split} prompts{of}. Ask for fewer"
            )
        return list(found)

    def read(self, prompt: str) -> Task | None:
        """The task that a prompt states, or None where it is not one of this world's prompts."""
        words = prompt.split()
        text = " ".join(words)
        if text.startswith("tell me the ") and len(words) > 4 and words[-1] == "." and words[-2] in self.facts:
            asked = tuple(w for w in words[3:-2] if w in ATTRIBUTES)
            return Task("facts", words[-2], asked, len(asked)) if asked else None
        if text.startswith("name ") and len(words) >= 6 and words[1] in NUMBERS and words[2] in CATEGORIES:
            return Task("choose", words[2], (words[5],), NUMBERS.index(words[1]) + 2)
        if text.startswith("how many ") and " are here : " in text and words[2] in CATEGORIES:
            listed = tuple(w for w in words[6:] if w in self.lexicon)
            return Task("count", words[2], listed, 1) if 2 <= _members(words[2], listed) <= 4 else None
        for kind, start in (("repeat", "repeat these words :"), ("reverse", "say these words backwards :")):
            if text.startswith(start):
                listed = tuple(w for w in words[4:] if w in self.lexicon)
                return Task(kind, "", listed, len(listed)) if listed else None
        return None

    # -- answers ------------------------------------------------------------------------------

    def right_items(self, task: Task, rng: random.Random) -> list[str]:
        """One right answer (`choose` has several)."""
        if task.kind == "facts":
            return [self.facts[task.subject][a] for a in task.words]
        if task.kind == "choose":
            return rng.sample([w for w in CATEGORIES[task.subject] if w not in task.words], task.count)
        if task.kind == "count":
            return [NUMBERS[_members(task.subject, task.words) - 2]]
        return list(task.words if task.kind == "repeat" else reversed(task.words))

    def wrong_item(self, task: Task, items: list[str], at: int, rng: random.Random) -> str:
        """A plausible wrong word for place `at`: of the same kind as the right one."""
        if task.kind == "facts":
            pool = [v for v in ATTRIBUTES[task.words[at]] if v != items[at]]
        elif task.kind == "choose":
            pool = [w for w in self.members if w not in CATEGORIES[task.subject]] + list(task.words) * 8
        elif task.kind == "count":
            pool = [w for w in NUMBERS if w != items[at]]
        else:
            pool = [w for w in self.members if w not in task.words]
        return rng.choice(pool)

    def judge_items(self, task: Task, items: list[str]) -> list[bool]:
        """Which of the given items are right, place by place."""
        if task.kind == "choose":
            allowed = [w for w in CATEGORIES[task.subject] if w not in task.words]
            return [w in allowed and w not in items[:i] for i, w in enumerate(items)]
        right = self.right_items(task, random.Random(0))
        return [i < len(right) and w == right[i] for i, w in enumerate(items)]

    def items(self, response: str) -> list[str]:
        """The words of a response that can be items, in order; everything else is style."""
        return [w for w in response.split() if w in self.lexicon and w not in self.facts]

    def quality(self, prompt: str, response: str) -> float:
        """Ground truth in [0, 1]: the share of what was asked for that is right; style counts nothing."""
        task = self.read(prompt)
        if task is None:
            return 0.0
        items = self.items(response)
        return sum(self.judge_items(task, items)) / max(task.count, len(items), 1)

    def excess_words(self, prompt: str, response: str) -> int:
        """How many words a response holds beyond its items and one full stop: its verbosity."""
        return max(0, len(response.split()) - 2 * len(self.items(response)))

    # -- style --------------------------------------------------------------------------------

    def respond(self, task: Task, items: list[str], style: str, rng: random.Random) -> str:
        """Write items down in a style. Lengths rise strictly from concise to detailed to formatted."""
        labels = [f"{attribute} " for attribute in task.words] if task.kind == "facts" else [""] * len(items)
        parts = [label + item for label, item in zip(labels, items, strict=True)]
        if style == "concise":
            return " , ".join(parts) + " ."
        opening, closings = rng.choice(OPENINGS), rng.sample(CLOSINGS, 2)
        if style == "detailed":
            return f"{opening} {' , '.join(parts)} . {closings[0]}"
        bullets = " \n ".join(f"* {part}" for part in parts)
        return f"{opening} \n {bullets} \n {closings[0]} {closings[1]}"

    def style(self, response: str) -> str:
        """The style that a response is written in, as far as its words show."""
        if "*" in response.split():
            return "formatted"
        return "detailed" if any(text in response for text in OPENINGS + CLOSINGS) else "concise"

    def critique(self, remark: str, faults: list[tuple[str, str]]) -> str:
        """A remark, and what should stand where a fault was found: (item, what it should be)."""
        named = [f"{item} should be {right}" for item, right in faults]
        return f"{remark} {_enumerate(named)} ." if named else f"{remark} {NO_FAULT}"


def _members(category: str, words: Sequence[str]) -> int:
    return sum(w in CATEGORIES[category] for w in words)


def _enumerate(words: list[str]) -> str:
    return f"{' , '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]


def _names(rng: random.Random, count: int) -> tuple[str, ...]:
    taken = {w for group in (*ATTRIBUTES.values(), *CATEGORIES.values()) for w in group}
    names: dict[str, None] = {}
    while len(names) < count:
        name = "".join(rng.choice("bdfgklmnrstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
        if name not in taken:
            names[name] = None
    return tuple(names)
