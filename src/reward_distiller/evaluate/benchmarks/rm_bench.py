"""RM-Bench (Liu et al., 2025): the 3 x 3 matrix of chosen style by rejected style, by domain.

The three chosen responses stand before the three rejected ones, each three concise, detailed, detailed with markdown.
The two safety files are pooled; averages are plain means over the domains that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Hub, Outcome, Scores
from reward_distiller.evaluate.metrics import average, grouped
from reward_distiller.evaluate.style_matrix import TRIANGLES
from reward_distiller.rows import Fields

STYLES = ("concise", "detailed", "markdown")
DOMAINS = ("chat", "math", "code", "safety")
FILES = ("chat_filtered", "math_filtered", "code_filtered", "safety-refuse_filtered", "safety-response_filtered")


def read(rows: Sequence[Fields]) -> list[Example]:
    return [_example(fields) for fields in rows]


def _example(fields: Fields) -> Example:
    part = fields.text("domain") or PurePath(fields.where).name.split(".")[0].removesuffix("_filtered")
    domain = part.split("-")[0]
    if domain not in DOMAINS:
        raise fields.wrong(
            "domain", f"{part!r} is no domain", f"Name it {', '.join(DOMAINS)}, or the file DOMAIN_filtered.json"
        )
    sides = [fields.texts(name) for name in ("chosen", "rejected")]
    for name, texts in zip(("chosen", "rejected"), sides, strict=True):
        if len(texts) != 3:
            raise fields.wrong(name, f"{len(texts)} texts", "Write three: concise, detailed, detailed with markdown")
    return Example(
        f"{part}:{fields.require('id')}", fields.prompt(), (*sides[0], *sides[1]), right=3, labels={"domain": domain}
    )


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    domain_of = {o.example.id: o.example.labels["domain"] for o in outcomes}
    present = [domain for domain in DOMAINS if domain in domain_of.values()]
    absent = [domain for domain in DOMAINS if domain not in present]
    levels = {
        level: grouped({o.example.id: float(o.wins[chosen, rejected].mean()) for o in outcomes}, domain_of)
        for level, (chosen, rejected) in TRIANGLES.items()
    }
    found = {f"{domain}.{level}": by[domain] for domain in present for level, by in levels.items()}
    found |= {domain: average([by[domain] for by in levels.values()]) for domain in present}
    found |= {level: average(list(by.values())) for level, by in levels.items()}
    found["average"] = average([found[domain] for domain in present])
    for i, chosen_style in enumerate(STYLES):
        for j, rejected_style in enumerate(STYLES):
            cell = grouped({o.example.id: float(o.wins[i, j]) for o in outcomes}, domain_of)
            found[f"matrix.{chosen_style}.{rejected_style}"] = average(list(cell.values()))
    notes = [f"domains not there: {', '.join(absent)}; averages are over {', '.join(present)}"] if absent else []
    return Scores(found, notes)


BENCHMARK = Benchmark(
    name="rm_bench",
    about="easy / normal / hard by how style goes with the right answer; chat, math, code, safety",
    files=(*(f"{name}.json*" for name in FILES), "total_dataset.json*"),
    expects="id, prompt, chosen and rejected (three texts each), and domain unless the file's name says it",
    read=read,
    metrics=metrics,
    hub=Hub("THU-KEG/RM-Bench", ("train",)),
)
