"""What the config of any one run is: it remembers how it was written, and names the runs that it stands on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, PrivateAttr

from reward_distiller.config.base import Section


class Made(Section):
    """Another run, what comes out of which is taken. It is made first where the store does not have it, with this
    run's seed."""

    run: str | dict[str, Any] = Field(description="a run's config: a file, relative to this one, or written here")
    changes: list[str] = Field([], description="key.sub=value: changes to it")


class WholeRun(Section):
    """The config of one run."""

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """What was written, before defaults were filled in; a copy."""
        return copy.deepcopy(self._given)

    @property
    def title(self) -> str:
        """What tells it from other runs of a comparison, in a word or two."""
        raise NotImplementedError

    @property
    def computing(self) -> list[tuple[int | None, str | None]]:
        """The CPU threads and the device that it computes with; empty where it only asks."""
        raise NotImplementedError

    @property
    def made(self) -> dict[str, Made]:
        """The runs that this one stands on, each under the dotted name of the section that has it as `made_by`."""
        return dict(_made_in(self, ""))

    def with_made(self, made: dict[str, Made]) -> Self:
        """The same config with other runs in these places."""
        data = self.model_dump()
        for place, run in made.items():
            node: Any = data
            for part in place.split("."):
                node = node[int(part) if isinstance(node, list) else part]
            node["made_by"] = run.model_dump()
        return self.model_validate(data)


def _made_in(value: Any, place: str) -> Iterator[tuple[str, Made]]:
    if isinstance(value, Section):
        below = {name: getattr(value, name) for name in type(value).model_fields}
    else:
        below = value if isinstance(value, dict) else {str(at): each for at, each in enumerate(value)}
    for name, each in below.items():
        if isinstance(each, Made):
            yield place, each
        elif isinstance(each, Section | dict | list):
            yield from _made_in(each, f"{place}.{name}" if place else name)
