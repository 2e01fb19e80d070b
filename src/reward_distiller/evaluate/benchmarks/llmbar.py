"""LLMBar (Zeng et al., 2024): which of two outputs follows the instruction, in natural and four adversarial subsets.

`overall` weighs all pairs alike. `adversarial` and `average` weigh subsets alike: the adversarial ones, and all five,
as far as they are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from reward_distiller.evaluate.benchmarks.pairs import by_label
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores
from reward_distiller.evaluate.metrics import average
from reward_distiller.rows import Fields

SUBSETS = {  # by the folder that upstream keeps their dataset.json in
    "Natural": "llmbar-natural",
    "Neighbor": "llmbar-adver-neighbor",
    "GPTInst": "llmbar-adver-GPTInst",
    "GPTOut": "llmbar-adver-GPTOut",
    "Manual": "llmbar-adver-manual",
}
FOLDERS = ("", "LLMBar/", "Dataset/LLMBar/")


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_example(fields) for fields in rows]


def _example(fields: Fields) -> Example:
    subset, label = fields.text("subset") or SUBSETS.get(PurePath(fields.where).parent.name), fields.require("label")
    if subset not in SUBSETS.values():
        raise fields.wrong(
            "subset",
            f"{subset!r:.60} is no subset",
            f"Name it {', '.join(SUBSETS.values())}, or keep the folders",
        )
    if type(label) is not int or label not in (1, 2):
        raise fields.wrong("label", f"{label!r:.60} is neither 1 nor 2", "Write the number of the better output")
    responses = (fields.response("output_1"), fields.response("output_2"))
    prompt = Fields(fields.where, fields.number, fields.row, {"prompt": "input"}).prompt()
    place = fields.get("idx")
    return Example(
        f"{subset}:{fields.number - 1 if place is None else place}",
        prompt,
        responses if label == 1 else responses[::-1],
        labels={"subset": str(subset)},
    )


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    scores = by_label(outcomes, "subset")
    present = [subset for subset in SUBSETS.values() if subset in scores.metrics]
    absent = [subset for subset in SUBSETS.values() if subset not in present]
    if not present:
        return scores
    found, adversarial = dict(scores.metrics), [subset for subset in present if subset != "llmbar-natural"]
    if adversarial:
        found["adversarial"] = average([found[subset] for subset in adversarial])
    found["average"] = average([found[subset] for subset in present])
    notes = [f"subsets not there: {', '.join(absent)}; averages are over {', '.join(present)}"] if absent else []
    return Scores(found, scores.notes + notes)


BENCHMARK = Benchmark(
    name="llmbar",
    about="instruction following, in natural pairs and pairs made to deceive",
    files=(
        "llmbar.json*",
        *(f"{folder}{part}/dataset.json" for folder in FOLDERS for part in ("Natural", "Adversarial/*")),
    ),
    expects="input, output_1, output_2, label (1 or 2, the better output), and subset unless the folder says it",
    read=read,
    metrics=metrics,
)
