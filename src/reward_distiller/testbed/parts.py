"""The testbed as a provider of what a config names `testbed`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reward_distiller.config import ChatModel, TestbedData
from reward_distiller.config import World as WorldConfig
from reward_distiller.construct.load import Rows
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.style_matrix import StyleItem
from reward_distiller.teacher.endpoint import Transport
from reward_distiller.testbed.benchmark import style_items
from reward_distiller.testbed.language import World
from reward_distiller.testbed.models import CANDIDATE_DEFAULTS, CANDIDATES, TEACHER, TEACHER_DEFAULTS, ScriptedTransport
from reward_distiller.testbed.student import LM_TEACHER, STUDENT, Kind, pretrained


class TestbedParts:
    __test__ = False  # pytest collects by name

    def __init__(self, settings: WorldConfig, seed: int):
        self.settings, self.seed, self.world = settings, seed, World(settings.seed)

    @property
    def transports(self) -> Mapping[str, Transport]:
        return {"testbed": ScriptedTransport()}

    def chat_model(self, model: ChatModel) -> ChatModel:
        """The world's parameters become part of the request, and so of the ledger's key."""
        if not model.is_testbed:
            return model
        if model.model not in (TEACHER, *CANDIDATES):
            raise ConfigError(f"the testbed has no model {model.model!r}; it has {', '.join([TEACHER, *CANDIDATES])}")
        names = TEACHER_DEFAULTS if model.model == TEACHER else CANDIDATE_DEFAULTS
        options = {name: getattr(self.settings, name) for name in names}
        return model.model_copy(update={"extra_body": {**model.extra_body, "testbed": options}})

    def rows(self, data: TestbedData) -> Rows:
        texts = self.world.prompts(data.count, self.seed, data.split)
        return [(number, {"prompt": text}) for number, text in enumerate(texts, 1)]

    def student(self) -> Path:
        return self._pretrained(STUDENT)

    def kl_teacher(self) -> Path:
        return self._pretrained(LM_TEACHER)

    def _pretrained(self, kind: Kind) -> Path:
        settings = self.settings
        return pretrained(Path(settings.cache), self.world, kind, settings.pretrain_steps, settings.pretrain_threads)

    def style_items(self, count: int) -> list[StyleItem]:
        return style_items(self.world, count, self.seed)
