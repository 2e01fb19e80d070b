"""All runs that a config stands on, itself the first, and the sections of one kind in a run, with their places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from reward_distiller.config import AnyRun, Made, Section
from reward_distiller.recipes.store import store_of

S = TypeVar("S", bound=Section)


def runs_of(config: AnyRun) -> list[AnyRun]:
    """The run and all that it stands on, each once."""
    store, found = store_of(config), {"": config}
    queue = [config]
    while queue:
        for made in queue.pop().made.values():
            run = store.made(made)
            if run.output not in found:  # which holds the hash of all that it comes from
                found[run.output] = run
                queue.append(run)
    return list(found.values())


def sections(value: Any, kind: type[S], place: str = "") -> Iterator[tuple[str, S]]:
    """The dotted name and the section, however deep; not those of the runs that `made_by` names."""
    if isinstance(value, kind):
        yield place, value
    if isinstance(value, Made):
        return
    if isinstance(value, Section):
        below: dict[str, Any] = {name: getattr(value, name) for name in type(value).model_fields}
    elif isinstance(value, dict):
        below = {str(name): each for name, each in value.items()}
    elif isinstance(value, list):
        below = {str(at): each for at, each in enumerate(value)}
    else:
        return
    for name, each in below.items():
        yield from sections(each, kind, f"{place}.{name}" if place else name)
