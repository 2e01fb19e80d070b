"""RewardBench (Lambert et al., 2025): accuracy on pairs by subset, sections, and the leaderboard's score.

A section is the mean of its subsets, weighted by the counts of upstream's `rewardbench/constants.py` and not by the
rows that are there: math-prm counts as much as all code together. The two xstest counts are those of releases 0.1.3 and
0.1.4; before, they were swapped. `average` is the plain mean of the four sections. `score` is the leaderboard's: prior
sets, where their rows are given, weigh half a section. What is missing leaves a mean and is named in a note; it never
counts as 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from reward_distiller.evaluate.benchmarks.pairs import accuracy_of
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Hub, Outcome, Scores, Unused
from reward_distiller.evaluate.metrics import Metric, average, combined, grouped
from reward_distiller.rows import Fields

SECTIONS: dict[str, dict[str, int]] = {
    "chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "chat_hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "reasoning": {
        "math-prm": 984,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
PRIOR_SETS = {"anthropic_helpful": 1, "anthropic_hhh": 1, "shp": 1, "summarize": 1}  # a plain mean
ALL_SECTIONS = {**SECTIONS, "prior_sets": PRIOR_SETS}
PRIOR_WEIGHT = 0.5


def read(rows: Sequence[Fields]) -> list[Example | Unused]:
    """An id that returns with other texts is another example; a row that returns whole is unused."""
    found: list[Example | Unused] = []
    seen: dict[str, list[tuple[str, ...]]] = {}
    for fields in rows:
        subset = _subset(fields)
        name = f"{subset}:{fields.number if subset in PRIOR_SETS else fields.require('id')}"
        prompt, responses = fields.prompt(), (fields.response("chosen"), fields.response("rejected"))
        earlier = seen.setdefault(name, [])
        if (prompt.id, *responses) in earlier:
            found.append(Unused(name, "the same row stands there twice"))
            continue
        earlier.append((prompt.id, *responses))
        unique = name if len(earlier) == 1 else f"{name}#{len(earlier)}"
        found.append(Example(unique, prompt, responses, labels={"subset": subset}))
    return found


def _subset(fields: Fields) -> str:
    """A prior set's file is named after it, and may have a column `subset` of its own."""
    file = PurePath(fields.where).name.split(".")[0].split("-")[0]
    subset = file if file in PRIOR_SETS else fields.require("subset")
    if not isinstance(subset, str) or not any(subset in section for section in ALL_SECTIONS.values()):
        raise fields.wrong(
            "subset", f"{subset!r:.60} is no subset", f"Name it as upstream does, such as {', '.join(SECTIONS['chat'])}"
        )
    return subset


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    by_subset = grouped(accuracy_of(outcomes), {o.example.id: o.example.labels["subset"] for o in outcomes})
    sections = {
        name: _weighted({subset: (count, by_subset[subset]) for subset, count in counts.items() if subset in by_subset})
        for name, counts in ALL_SECTIONS.items()
        if counts.keys() & by_subset.keys()
    }
    found = {f"subset.{subset}": metric for subset, metric in by_subset.items()} | sections
    own = [sections[name] for name in SECTIONS if name in sections]
    if own:
        found["average"] = average(own)
    if sections:
        weights = {name: PRIOR_WEIGHT if name == "prior_sets" else 1 for name in sections}
        found["score"] = _weighted({name: (weights[name], metric) for name, metric in sections.items()})
    return Scores(found, _notes(sections, by_subset))


def _weighted(parts: dict[str, tuple[float, Metric]]) -> Metric:
    total = sum(weight for weight, _ in parts.values())
    return combined((weight / total, metric) for weight, metric in parts.values())


def _notes(sections: dict[str, Metric], by_subset: dict[str, Metric]) -> list[str]:
    """Prior sets are extra, so that they lack is said only where some of them are there."""
    notes = []
    empty = [name for name in SECTIONS if name not in sections]
    if empty:
        notes.append(f"sections not there: {', '.join(empty)}; no mean counts them")
    for name in sections:
        missing = [subset for subset in ALL_SECTIONS[name] if subset not in by_subset]
        if missing:
            notes.append(f"{name} lacks {', '.join(missing)}; it is over the subsets that are there")
    return notes


BENCHMARK = Benchmark(
    name="rewardbench",
    about="chat, chat hard, safety and reasoning pairs in 23 subsets",
    files=(
        *(f"{folder}filtered*" for folder in ("", "data/")),
        "reconstructed.json*",
        *(f"{folder}{name}[.-]*" for folder in ("", "data/") for name in PRIOR_SETS),
    ),
    expects="id, subset, prompt, chosen and rejected (one text each)",
    read=read,
    metrics=metrics,
    hub=Hub("allenai/reward-bench", ("filtered",)),
)
