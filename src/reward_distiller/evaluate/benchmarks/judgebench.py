"""JudgeBench (Tan et al., 2025): pairs of one model's responses, of which one is correct and the other is not.

Categories are those of the paper's tables: knowledge (MMLU-Pro), reasoning, math (LiveBench), coding (LiveCodeBench).
The paper reports the pairs written by each model apart, so where a file holds several each has its own figures.
Rewards are compared as in upstream's `utils/metrics.py`: equal ones are a loss.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.benchmarks.pairs import by_label
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Hub, Outcome, Scores
from reward_distiller.rows import Fields

CATEGORIES = {  # how a row's `source` begins -> category
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}
LABELS = {"A>B": ("response_A", "response_B"), "B>A": ("response_B", "response_A")}


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_example(Fields(f.where, f.number, f.row, {"prompt": "question"})) for f in rows]


def _example(fields: Fields) -> Example:
    label, source = fields.require("label"), fields.require("source")
    if label not in LABELS:
        raise fields.wrong("label", f"{label!r:.40} is no label", f"Write {' or '.join(LABELS)}")
    category = next((name for start, name in CATEGORIES.items() if str(source).startswith(start)), None)
    if category is None:
        raise fields.wrong("source", f"{source!r:.60} is no source of JudgeBench", f"Write {', '.join(CATEGORIES)}")
    right, wrong = LABELS[label]
    return Example(
        str(fields.require("pair_id")),
        fields.prompt(),
        (fields.response(right), fields.response(wrong)),
        labels={"category": category, "response_model": fields.text("response_model") or "unknown"},
    )


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    found = by_label(outcomes, "category")
    writers = sorted({o.example.labels["response_model"] for o in outcomes})
    if len(writers) <= 1:
        return found
    apart = {
        f"{writer}.{name}": metric
        for writer in writers
        for name, metric in by_label(
            [o for o in outcomes if o.example.labels["response_model"] == writer], "category"
        ).metrics.items()
    }
    note = "published figures are those of one response model's pairs, not of all together"
    return Scores({**found.metrics, **apart}, [*found.notes, note])


BENCHMARK = Benchmark(
    name="judgebench",
    about="correct above incorrect; knowledge, reasoning, math, coding, and apart by who wrote the responses",
    files=("pairs.json*", "dataset=judgebench,response_model=*.json*", "data/dataset=judgebench,*.json*"),
    expects="pair_id, source, question, response_A, response_B, label (A>B or B>A) and response_model",
    read=read,
    metrics=metrics,
    hub=Hub("ScalerLab/JudgeBench", ("claude", "gpt")),
)
