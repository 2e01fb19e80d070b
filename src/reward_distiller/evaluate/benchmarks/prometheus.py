"""Prometheus' test sets (Kim et al., 2024): responses scored by GPT-4 against a rubric, and HHH Alignment's pairs.

A row holds a judge's whole prompt, from which the instruction and the response are cut. Of responses to the same
instruction each two with different GPT-4 scores (means of three samples) make a pair. In MT-Bench's set a response
mostly follows its model's own first turn, so that hardly two answer the same. Upstream correlates scores there, so
those accuracies are ours; `hhh` is upstream's, over all pairs alike. Responses are compared without their rubric.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePath

from reward_distiller.evaluate.benchmarks.hh_rlhf import turns
from reward_distiller.evaluate.benchmarks.pairs import accuracy_of
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores, Unused
from reward_distiller.evaluate.metrics import grouped, mean
from reward_distiller.records import Message, Prompt
from reward_distiller.rows import Fields

SECTIONS = re.compile(
    r"###The instruction to evaluate:\n(?P<instruction>.*?)\s*"
    r"###Response to evaluate:\n(?P<response>.*?)\s*"
    r"###(?:Reference Answer \(Score 5\)|Score Rubrics):\n",
    re.DOTALL,
)
HEADS = ("###The instruction to evaluate:", "###Response to evaluate:", "###Score Rubrics:")
UNCUT = "its instruction and response cannot be told apart"
ALONE = "no other response to the same instruction has another score"
HHH_SOURCES = ("helpful", "honest", "harmless", "other")


@dataclass(frozen=True)
class _Scored:
    row: str
    part: str
    prompt: Prompt
    response: str
    score: float


def read(rows: Sequence[Fields]) -> list[Example | Unused]:
    found: list[Example | Unused] = []
    scored: dict[tuple[str, str], list[_Scored]] = defaultdict(list)
    for fields in rows:
        if fields.get("chosen_instruction") is not None:
            found.append(_hhh(fields))
            continue
        item = _scored(fields)
        if isinstance(item, Unused):
            found.append(item)
        else:
            scored[item.part, item.prompt.id].append(item)
    for responses in scored.values():
        found += _pairs(responses)
    return found


def _pairs(responses: Sequence[_Scored]) -> list[Example | Unused]:
    """Each two of different scores, the better first, and the responses that are in none."""
    made: list[Example | Unused] = []
    used = set()
    for pair in combinations(responses, 2):
        worse, better = sorted(pair, key=lambda scored: scored.score)
        if worse.score < better.score:
            texts = (better.response, worse.response)
            made.append(Example(f"{better.row}>{worse.row}", better.prompt, texts, labels={"part": better.part}))
            used |= {better.row, worse.row}
    return made + [Unused(scored.row, ALONE) for scored in responses if scored.row not in used]


def _scored(fields: Fields) -> _Scored | Unused:
    part = PurePath(fields.where).name.split(".")[0]
    row = f"{part}:{fields.require('idx')}:{fields.require('response_source')}"
    samples = fields.require("gpt4_score")
    if not isinstance(samples, list) or not samples or not all(type(score) in (int, float) for score in samples):
        raise fields.wrong("gpt4_score", f"{samples!r:.60} is no list of scores", "Write [4, 5, 4]")
    cut = _cut(fields, "instruction")
    if cut is None:
        return Unused(row, UNCUT)
    return _Scored(row, part, cut[0], cut[1], sum(samples) / len(samples))


def _hhh(fields: Fields) -> Example | Unused:
    source = fields.require("source")
    if source not in HHH_SOURCES:
        raise fields.wrong("source", f"{source!r:.40} is none of HHH's", f"Write {', '.join(HHH_SOURCES)}")
    row = f"hhh:{fields.number}"
    chosen, rejected = _cut(fields, "chosen_instruction"), _cut(fields, "rejected_instruction")
    if chosen is None or rejected is None:
        return Unused(row, UNCUT)
    if chosen[0] != rejected[0]:
        return Unused(row, "the two responses answer different instructions")
    return Example(row, chosen[0], (chosen[1], rejected[1]), labels={"part": f"hhh.{source}"})


def _cut(fields: Fields, name: str) -> tuple[Prompt, str] | None:
    """The instruction, as a conversation where it is the transcript of one, and the response; None if in doubt."""
    text = fields.text(name)
    if text is None:
        raise fields.wrong(name, "missing", "Write the judge's prompt")
    found = SECTIONS.search(text)
    if found is None or any(text.count(head) != 1 for head in HEADS):
        return None
    instruction, response = found["instruction"].strip(), found["response"].strip()
    talk = turns(f"\n\nHuman: {instruction}\n\nAssistant:") or [("Human", instruction), ("Assistant", "")]
    messages = [Message(role="user" if who == "Human" else "assistant", content=said) for who, said in talk[:-1]]
    return Prompt.of(tuple(messages)), response


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    won = accuracy_of(outcomes)
    part_of = {o.example.id: o.example.labels["part"] for o in outcomes}
    found = grouped(won, part_of)
    hhh = {example: value for example, value in won.items() if part_of[example].startswith("hhh.")}
    return Scores({**found, "hhh": mean(hhh)} if hhh else found)


BENCHMARK = Benchmark(
    name="prometheus",
    about="the response that GPT-4 scored higher, by test set; HHH Alignment's pairs by source",
    files=("vicuna_eval.json*", "mt_bench_eval.json*", "hhh_alignment_eval.json*"),
    expects="idx, response_source, instruction, gpt4_score; or source, chosen_instruction, rejected_instruction",
    read=read,
    metrics=metrics,
)
