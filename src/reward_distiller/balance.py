"""What became of records in a step: in = kept + tied + disagreed + filtered + dropped + quarantined + failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

Fate = Literal["kept", "tied", "disagreed", "filtered", "dropped", "quarantined", "failed"]
FATES: tuple[Fate, ...] = ("kept", "tied", "disagreed", "filtered", "dropped", "quarantined", "failed")
EXAMPLES = 3  # record ids named for each reason


@dataclass(frozen=True)
class Quarantined:
    """Answers to a question came, none of them usable. `texts` are the raw ones, in the order asked."""

    reason: str
    texts: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The reason in words that records share, to be counted by."""
        return f"unusable answer: {self.reason}"


@dataclass(frozen=True)
class Failed:
    """No answer to a question came: refused, or out of retries (`gave_up`: it may be answered another time)."""

    reason: str
    gave_up: bool = False

    @property
    def summary(self) -> str:
        """The reason in words that records share, to be counted by; a server says more, and the ledger has it."""
        return f"refused: {self.reason.partition(':')[0]}"


@dataclass
class Balance:
    """Counts of what became of `total` records, with reasons. `quarantine` holds raw answers to look at.

    `notes` counts what else was seen on the way; it is not part of the sum.
    """

    step: str
    unit: str
    total: int
    counts: Counter[Fate] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)

    def count(self, note: str) -> None:
        self.notes[note] += 1

    def keep(self) -> None:
        self.counts["kept"] += 1

    def lose(self, fate: Fate, reason: str, record: str) -> None:
        self.counts[fate] += 1
        self.reasons.setdefault(fate, Counter())[reason] += 1
        examples = self.examples.setdefault(f"{fate}: {reason}", [])
        if len(examples) < EXAMPLES:
            examples.append(record)

    def lose_to(self, outcome: Quarantined | Failed, record: str, model: str) -> None:
        """Count an outcome that brought no value."""
        if isinstance(outcome, Failed):
            self.lose("failed", outcome.reason, record)
            return
        self.lose("quarantined", outcome.reason, record)
        self.quarantine.append(
            {"step": self.step, "record": record, "model": model, "reason": outcome.reason, "answers": outcome.texts}
        )

    @property
    def kept(self) -> int:
        return self.counts["kept"]

    def check(self) -> Balance:
        """Raise where the balance does not add up: a step lost or invented records."""
        if sum(self.counts.values()) != self.total:
            raise AssertionError(f"step {self.step}: {self.total} in, but {dict(self.counts)} out")
        return self

    def as_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "unit": self.unit,
            "in": self.total,
            **{fate: self.counts[fate] for fate in FATES},
            "reasons": {fate: dict(sorted(c.items())) for fate, c in sorted(self.reasons.items())},
            "examples": dict(sorted(self.examples.items())),
            **({"notes": dict(self.notes)} if self.notes else {}),
        }

    def line(self) -> str:
        parts = [f"{fate} {self.counts[fate]}" for fate in FATES if self.counts[fate] or fate == "kept"]
        notes = "".join(f"; {count} {note}" for note, count in self.notes.items())
        return f"{self.step}: in {self.total} {self.unit} = {' + '.join(parts)}{notes}"
