"""PandaLM's test set (Wang et al., 2024): pairs with three people's labels, of which the majority counts.

Pairs that the majority calls a tie are left out of the figures. `unanimous` are those on which all three agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reward_distiller.evaluate.benchmarks.pairs import by_label
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores, Unused
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields

ANNOTATORS = ("annotator1", "annotator2", "annotator3")
TIE, FIRST, SECOND = 0, 1, 2


def read(rows: Sequence[Fields]) -> list[Example | Unused]:
    return [_item(fields) for fields in rows]


def majority(labels: Sequence[int]) -> tuple[int, int] | None:
    """The label that more than half give, and how many do; None where there is none."""
    (label, votes), *_ = Counter(labels).most_common(1)
    return (label, votes) if 2 * votes > len(labels) else None


def _item(fields: Fields) -> Example | Unused:
    name = str(fields.require("idx"))
    found = majority([_label(fields, annotator) for annotator in ANNOTATORS])
    if found is None:
        return Unused(name, "the annotators have no majority")
    label, votes = found
    instruction = fields.text("instruction")
    if instruction is None:
        raise fields.wrong("instruction", "missing", "Write what was asked for")
    material = fields.text("input")
    responses = [_response(fields, side) for side in ("response1", "response2")]
    return Example(
        name,
        Prompt.from_text(f"{instruction}\n\n{material}" if material else instruction),
        tuple(reversed(responses) if label == SECOND else responses),
        right=2 if label == TIE else 1,
        labels={"annotators": "unanimous" if votes == len(ANNOTATORS) else "two_of_three"},
    )


def _label(fields: Fields, name: str) -> int:
    value = fields.require(name)
    if str(value) not in ("0", "1", "2"):
        raise fields.wrong(name, f"{value!r:.40} is no label", "Write 1, 2, or 0 for a tie")
    return int(value)


def _response(fields: Fields, name: str) -> str:
    """Six responses of the test set, which were the word True, are JSON's true in the upstream file."""
    value = fields.require(name)
    return str(value) if isinstance(value, bool) else fields.response(name)


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    return by_label(outcomes, "annotators")


BENCHMARK = Benchmark(
    name="pandalm",
    about="what most of three people preferred; unanimous or two of three",
    files=("testset-v1*.json*",),
    expects="idx, instruction, input, response1, response2 and annotator1 to annotator3 (1, 2, or 0 for a tie)",
    read=read,
    metrics=metrics,
)
