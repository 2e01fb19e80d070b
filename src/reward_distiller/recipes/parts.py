"""What a config may name that is neither a file nor a URL. The command line hands in who provides it (the testbed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from reward_distiller.answers import AnswerFormat
from reward_distiller.config import ChatModel, TestbedData
from reward_distiller.evaluate.style_matrix import StyleItem
from reward_distiller.rows import Rows
from reward_distiller.teacher.endpoint import Transport

RowKind = Literal["prompts", "pairs", "demonstrations"]


class Parts(Protocol):
    @property
    def transports(self) -> Mapping[str, Transport]:
        """Base URL -> who answers there."""

    def chat_model(self, model: ChatModel) -> ChatModel:
        """The model with all that decides its answers made part of what is asked."""

    def rows(self, data: TestbedData, kind: RowKind = "prompts") -> Rows:
        """`count` rows with `prompt`; of pairs with `chosen` and `rejected` and who wrote them as well, of
        demonstrations with `response`."""

    def student(self) -> Path: ...

    def student_tokenizer(self) -> Any:
        """The student's tokenizer with its chat template, before there are weights."""

    def kl_teacher(self) -> Path: ...

    def quality(self, prompt: str, response: str) -> float:
        """The true quality of a response in 0..1. Only where prompts are of the testbed."""

    @property
    def answers(self) -> AnswerFormat:
        """What the final answer of a response to a prompt of the testbed is."""

    def style_items(self, count: int, tasks: Sequence[str] | None = None) -> list[StyleItem]: ...
