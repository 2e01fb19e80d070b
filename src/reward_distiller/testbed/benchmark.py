"""The testbed's easy / normal / hard test sets, in RM-Bench's form.

A prompt has one right and one wrong item list, each written in the three styles. Does not know how
rewards are computed or compared (`evaluate.style_matrix`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from reward_distiller.evaluate.style_matrix import StyleItem
from reward_distiller.records import Prompt
from reward_distiller.testbed.language import STYLES, World


def style_items(world: World, count: int, seed: int, tasks: Sequence[str] | None = None) -> list[StyleItem]:
    """Prompts of the test split; the rejected side has exactly one wrong item."""
    items = []
    for text in world.prompts(count, seed, "test", tasks):
        rng = random.Random(f"benchmark:{seed}:{text}")
        task = world.read(text)
        assert task is not None
        right = world.right_items(task, rng)
        wrong, at = list(right), rng.randrange(len(right))
        wrong[at] = world.wrong_item(task, right, at, rng)
        chosen, rejected = (tuple(world.respond(task, x, style, rng) for style in STYLES) for x in (right, wrong))
        items.append(StyleItem(Prompt.from_text(text), chosen, rejected))
    return items
