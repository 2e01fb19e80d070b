"""What a config may name that is neither a file nor a URL. The command line hands in who provides it (the testbed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from reward_distiller.config import ChatModel, TestbedData
from reward_distiller.evaluate.style_matrix import StyleItem
from reward_distiller.rows import Rows
from reward_distiller.teacher.endpoint import Transport


class Parts(Protocol):
    @property
    def transports(self) -> Mapping[str, Transport]:
        """Base URL -> who answers there."""

    def chat_model(self, model: ChatModel) -> ChatModel:
        """The model with all that decides its answers made part of what is asked."""

    def rows(self, data: TestbedData, labeled: bool = False) -> Rows:
        """`count` rows: with `prompt`, or labeled pairs with `chosen` and `rejected` and who wrote them as well."""

    def student(self) -> Path: ...

    def kl_teacher(self) -> Path: ...

    def style_items(self, count: int, tasks: Sequence[str]) -> list[StyleItem]: ...
