"""What the doctor says: one line a finding, each ok, a warning or a problem, with its mend. Knows no checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """`check` names what was looked at: a part of the machine, or a dotted place of the config."""

    level: Level
    check: str
    found: str
    mend: str = ""

    @property
    def line(self) -> str:
        text = f"{self.level:<8} {self.check}: {self.found}{f'. {self.mend}' if self.mend else ''}"
        return " ".join(text.splitlines())

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    return Finding("ok", check, found)


def warning(check: str, found: str, mend: str) -> Finding:
    return Finding("warning", check, found, mend)


def problem(check: str, found: str, mend: str = "") -> Finding:
    return Finding("problem", check, found, mend)
