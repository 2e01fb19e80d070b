"""A teacher as the critic of a reward model that reads its critiques: asked through the ledger of a run's config.

A model that writes its own brings its critic along (`model/critiques.py`). Knows no reward models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reward_distiller.config import ChatModel, Config
from reward_distiller.construct.critique import critique_responses
from reward_distiller.errors import ConfigError
from reward_distiller.model.critiques import Rows
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import Message, Prompt, content_id
from reward_distiller.teacher.endpoint import build_request, check_environment
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.prompts import Templates


@dataclass(frozen=True)
class TeacherCritic:
    """A teacher, asked through an open ledger. Calling it raises CallsFailed where a critique does not come."""

    teacher: ChatModel
    templates: Templates
    engine: Engine

    def __call__(self, rows: Rows) -> list[list[str]]:
        asked = [(_prompt(messages), responses) for messages, responses in rows]
        return critique_responses(asked, self.teacher, self.templates, self.engine)

    @property
    def identity(self) -> dict[str, Any]:
        """Who writes, and how it is asked."""
        request = {name: value for name, value in build_request(self.teacher, [], 0).items() if name != "messages"}
        return {"teacher": request, "template": content_id(self.templates.source("critique"))}

    def cost(self) -> list[dict[str, Any]]:
        return self.engine.cost()


@contextmanager
def teacher_critic(config: Config, parts: Parts) -> Iterator[TeacherCritic]:
    """The critic that a run's config names: its `teacher`, asked through its ledger, so that nothing is bought twice.

    Raises ConfigError for a config that names no teacher.
    """
    if config.teacher is None:
        raise ConfigError("the config that is to give a teacher's critiques names no `teacher`. Add one")
    check_environment(config.teacher)
    templates = Templates(config.annotation.templates)
    with open_engine(config.ledger_path, parts.transports) as engine:
        yield TeacherCritic(parts.chat_model(config.teacher), templates, engine)


def _prompt(messages: Sequence[dict[str, str]]) -> Prompt:
    return Prompt.of(tuple(Message.model_validate(m) for m in messages))
