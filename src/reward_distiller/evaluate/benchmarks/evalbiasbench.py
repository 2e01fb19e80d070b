"""EvalBiasBench (Park et al., 2024, OffsetBias): accuracy on pairs whose worse response has what judges fall for.

One figure each bias; `overall` weighs all pairs alike, as the tables of OffsetBias and RM-Distiller (table 16) do.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.benchmarks.pairs import by_label
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores
from reward_distiller.rows import Fields

PAIRS = {
    "length bias": 17,
    "concreteness": 14,
    "empty reference": 13,
    "content_continuation": 12,
    "nested_instruction": 12,
    "familiar knowledge preference bias": 12,
}


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_example(fields) for fields in rows]


def _example(fields: Fields) -> Example:
    bias, label = fields.require("bias"), fields.require("label")
    if not isinstance(bias, str) or bias not in PAIRS:
        raise fields.wrong("bias", f"{bias!r:.60} is no bias", f"Name it {', '.join(PAIRS)}")
    if type(label) is not int or label not in (1, 2):
        raise fields.wrong("label", f"{label!r:.60} is neither 1 nor 2", "Write the number of the better response")
    responses = (fields.response("response1"), fields.response("response2"))
    prompt = Fields(fields.where, fields.number, fields.row, {"prompt": "instruction"}).prompt()
    name = bias.replace(" ", "_")
    return Example(
        f"{name}:{fields.number}", prompt, responses if label == 1 else responses[::-1], labels={"bias": name}
    )


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    scores, whole = by_label(outcomes, "bias"), sum(PAIRS.values())
    notes = [f"{len(outcomes)} of the benchmark's {whole} pairs"] if len(outcomes) < whole else []
    return Scores(scores.metrics, scores.notes + notes)


BENCHMARK = Benchmark(
    name="evalbiasbench",
    about="pairs by the bias that they tempt: length, concreteness, continuation and three more",
    files=("biasbench.json*", "data/evalbiasbench/biasbench.json*"),
    expects="bias, instruction, response1, response2 and label (1 or 2, the better response)",
    read=read,
    metrics=metrics,
)
