"""The testbed as a provider of what a config names `testbed`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.config import ChatModel, TestbedData
from reward_distiller.config import World as WorldConfig
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.style_matrix import StyleItem
from reward_distiller.files import Row
from reward_distiller.recipes.parts import RowKind
from reward_distiller.rows import Rows
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.endpoint import Transport
from reward_distiller.testbed.benchmark import style_items
from reward_distiller.testbed.language import Task, World
from reward_distiller.testbed.minds import TEACHERS
from reward_distiller.testbed.models import (
    CANDIDATE_DEFAULTS,
    CANDIDATES,
    MODELS,
    ScriptedTransport,
    reply,
)
from reward_distiller.testbed.student import LM_TEACHER, STUDENT, Kind, build_tokenizer, pretrained
from reward_distiller.testbed.teachers import TEACHER_DEFAULTS

DRAWS = 5  # of two candidates at one prompt, until one is better


@dataclass(frozen=True)
class ItemAnswers:
    """The final answer of a response is its items, in their order, whatever the style around them."""

    world: World

    def extract(self, response: str) -> str | None:
        return " ".join(self.world.items(response)) or None

    def same(self, a: str, b: str) -> bool:
        return a == b


class TestbedParts:
    __test__ = False  # pytest collects by name

    def __init__(self, settings: WorldConfig, seed: int):
        self.settings, self.seed, self.world = settings, seed, World(settings.seed, settings.tasks)

    @property
    def transports(self) -> Mapping[str, Transport]:
        return {"testbed": ScriptedTransport()}

    def chat_model(self, model: ChatModel) -> ChatModel:
        """The world's parameters become part of the request, and so of the ledger's key."""
        if not model.is_testbed:
            return model
        if model.model not in MODELS:
            raise ConfigError(f"the testbed has no model {model.model!r}; it has {', '.join(MODELS)}")
        names = TEACHER_DEFAULTS if model.model in TEACHERS else CANDIDATE_DEFAULTS
        options = {name: getattr(self.settings, name) for name in names}
        return model.model_copy(update={"extra_body": {**model.extra_body, "testbed": options}})

    def rows(self, data: TestbedData, kind: RowKind = "prompts") -> Rows:
        """`count` rows: prompts, pairs of two candidates' responses labeled by the truth, or a candidate's response.

        A prompt with several right answers is open-ended.
        """
        if kind == "pairs":
            return list(enumerate(self._labeled(data), 1))
        texts = self.world.prompts(data.count, self.seed, data.split, data.tasks)
        rows: list[Row] = [{"prompt": text, **_open_ended(self.world.read(text))} for text in texts]
        if kind == "demonstrations":
            names = sorted(CANDIDATES)
            for row in rows:
                name = random.Random(f"demonstration:{self.seed}:{row['prompt']}").choice(names)
                row |= {"response": self._attempt(name, row["prompt"], 0), "model": name}
        return list(enumerate(rows, 1))

    @property
    def answers(self) -> ItemAnswers:
        return ItemAnswers(self.world)

    def quality(self, prompt: str, response: str) -> float:
        return self.world.quality(prompt, response)

    def _labeled(self, data: TestbedData) -> list[Row]:
        """Of prompts in their order; one at which the drawn candidates keep being equally good is passed over."""
        found: list[Row] = []
        prompts: list[str] = []
        while len(found) < data.count:
            taken = len(prompts)
            wanted = taken + data.count - len(found)
            prompts = self.world.prompts(wanted, self.seed, data.split, data.tasks)
            found += filter(None, map(self._pair, prompts[taken:]))
        return found

    def _pair(self, prompt: str) -> Row | None:
        """Two distinct candidates' responses, the better one chosen; None where every draw is a tie."""
        rng = random.Random(f"labeled:{self.seed}:{prompt}")
        for draw in range(DRAWS):
            names = rng.sample(sorted(CANDIDATES), 2)
            texts = [self._attempt(name, prompt, draw) for name in names]
            qualities = [self.world.quality(prompt, text) for text in texts]
            if qualities[0] != qualities[1]:
                best = qualities.index(max(qualities))
                return {
                    "prompt": prompt,
                    "chosen": texts[best],
                    "rejected": texts[1 - best],
                    "chosen_model": names[best],
                    "rejected_model": names[1 - best],
                }
        return None

    def _attempt(self, name: str, prompt: str, draw: int) -> str:
        """A candidate's response; each draw is another sample."""
        request = {"model": name, "messages": [{"role": "user", "content": prompt}], "sample": draw}
        options = {key: getattr(self.settings, key) for key in CANDIDATE_DEFAULTS}
        return read_completion(reply({**request, "testbed": options, "labeled": self.seed})).text

    def student(self) -> Path:
        return self._pretrained(STUDENT)

    def student_tokenizer(self) -> Any:
        return build_tokenizer(self.world)

    def kl_teacher(self) -> Path:
        return self._pretrained(LM_TEACHER)

    def _pretrained(self, kind: Kind) -> Path:
        settings = self.settings
        return pretrained(Path(settings.cache), self.world, kind, settings.pretrain_steps, settings.pretrain_threads)

    def style_items(self, count: int, tasks: Sequence[str] | None = None) -> list[StyleItem]:
        return style_items(self.world, count, self.seed, tasks)


def _open_ended(task: Task | None) -> Row:
    return {"open_ended": True} if task is not None and task.kind == "choose" else {}
