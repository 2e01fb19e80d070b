"""Recipe `quarantine`: the answers of a run that nobody could read, and reading them again.

Reading again is constructing again from the ledger alone: no call is made, and an answer that a parser or template
of today can read is one from then on. What was never asked stays unasked. Knows no parsers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from reward_distiller.config import Config
from reward_distiller.errors import ConfigError
from reward_distiller.files import read_rows
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.reward_model import construct_into
from reward_distiller.recipes.run_folder import run_folder

FILE = "quarantine.jsonl"
EXAMPLES = 3


@dataclass
class Group:
    """Answers of one step and model that could not be read for one reason."""

    step: str
    model: str
    reason: str
    count: int = 0
    records: list[str] = field(default_factory=list)  # the first few
    answers: list[str] = field(default_factory=list)


def listed(folder: str | Path) -> list[Group]:
    """The quarantine of a run folder, the largest group first. Raises ConfigError for a folder without one."""
    file = Path(folder) / FILE
    if not file.is_file():
        raise ConfigError(f"{folder} holds no {FILE}. Name the folder of a run that has constructed its pairs")
    groups: dict[tuple[str, str, str], Group] = {}
    for _, row in read_rows(file):
        place = (str(row.get("step")), str(row.get("model")), str(row.get("reason")))
        group = groups.setdefault(place, Group(*place))
        group.count += 1
        if len(group.records) < EXAMPLES:
            group.records.append(str(row.get("record")))
            group.answers += [str(text) for text in (row.get("answers") or ())[:1]]
    return sorted(groups.values(), key=lambda group: -group.count)


@dataclass
class Reparsed:
    """Unreadable answers by step, before and after, and the pairs that there are now."""

    before: Counter[str]
    after: Counter[str]
    pairs: int


def reparse(config: Config, parts: Parts) -> Reparsed:
    """Construct a run again from its ledger alone, and write its pairs, balance and quarantine anew."""
    before = Counter(_steps(Path(config.output) / FILE))
    lenient = config.annotation.model_copy(update={"allowed_failures": 1.0})  # what was not asked has failed here
    with run_folder(config) as folder:
        made = construct_into(folder, config.model_copy(update={"annotation": lenient}), parts, offline=True)
    return Reparsed(before, Counter(_steps(Path(config.output) / FILE)), len(made.pairs))


def _steps(file: Path) -> list[str]:
    return [str(row["step"]) for _, row in read_rows(file)] if file.is_file() else []
