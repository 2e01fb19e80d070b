"""IFBench (Peng et al., 2025, Agentic Reward Modeling): one response keeps all of a prompt's constraints, one does not.

The level says how many the rejected response breaks: three or more (level-1), two (level-2), or one (level-3, the
hardest). `overall` weighs all pairs alike; `average` is the plain mean of the levels that are there.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.benchmarks.pairs import by_label
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Hub, Outcome, Scores
from reward_distiller.evaluate.metrics import average
from reward_distiller.rows import Fields

LEVELS = ("level-1", "level-2", "level-3")
HUB_COLUMNS = {"prompt": "instruction", "chosen": "chosen.content", "rejected": "rejected.content"}
CONVERTED_COLUMNS = {"chosen": "text_chosen", "rejected": "text_rejected"}


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_converted(fields) if fields.get("text_chosen") is not None else _original(fields) for fields in rows]


def _converted(fields: Fields) -> Example:
    """The repository's data.converted.json: two conversations and the level under `domain`."""
    level, sides = fields.require("domain"), [fields.require(name) for name in CONVERTED_COLUMNS.values()]
    if level not in LEVELS:
        raise fields.wrong("domain", f"{level!r:.60} is no level", f"Name it {', '.join(LEVELS)}")
    for name, side in zip(CONVERTED_COLUMNS.values(), sides, strict=True):
        if not isinstance(side, list) or len(side) < 2:
            raise fields.wrong(name, "not a conversation", "Write the prompt's messages and the response's")
    if sides[0][:-1] != sides[1][:-1]:
        raise fields.wrong("text_rejected", "another prompt than text_chosen's", "Write both under one prompt")
    row = {**fields.row, "prompt": sides[0][:-1]}
    return _example(Fields(fields.where, fields.number, row, CONVERTED_COLUMNS), level)


def _original(fields: Fields) -> Example:
    """The Hub's rows: each response with the constraints that it breaks."""
    broken = fields.require("rejected.unsatisfied_constraints")
    if not isinstance(broken, list) or not broken:
        raise fields.wrong("rejected.unsatisfied_constraints", "no constraint is broken", "List those that are")
    return _example(Fields(fields.where, fields.number, fields.row, HUB_COLUMNS), LEVELS[-min(len(broken), 3)])


def _example(fields: Fields, level: str) -> Example:
    responses = (fields.response("chosen"), fields.response("rejected"))
    return Example(str(fields.require("id")), fields.prompt(), responses, labels={"level": level})


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    scores = by_label(outcomes, "level")
    present = [level for level in LEVELS if level in scores.metrics]
    absent = [level for level in LEVELS if level not in present]
    if not present:
        return scores
    notes = [f"levels not there: {', '.join(absent)}; average is over {', '.join(present)}"] if absent else []
    found = {**scores.metrics, "average": average([scores.metrics[level] for level in present])}
    return Scores(found, scores.notes + notes)


BENCHMARK = Benchmark(
    name="ifbench",
    about="responses that keep all of a prompt's constraints, by how many the other one breaks",
    files=("data.converted.json*", "data/IFBench/data.converted.json*", "IFBench.json*"),
    expects="id, text_chosen, text_rejected and domain, or id, instruction, chosen and rejected as on the Hub",
    read=read,
    metrics=metrics,
    hub=Hub("THU-KEG/IFBench", ("train",)),
)
