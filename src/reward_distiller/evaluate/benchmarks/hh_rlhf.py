"""HH-RLHF (Bai et al., 2022): people's preferences between two last turns of one conversation.

A row is two transcripts, `\\n\\nHuman: ...\\n\\nAssistant: ...`, that are the same up to the last turn. Where that is
not so, or turns do not alternate, a row makes no example. Figures by subset where the file's path names one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from reward_distiller.evaluate.benchmarks.pairs import accuracy_of
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Hub, Outcome, Scores, Unused
from reward_distiller.evaluate.metrics import grouped, mean
from reward_distiller.records import Message, Prompt
from reward_distiller.rows import Fields

SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
TURN = re.compile(r"\n\n(Human|Assistant):")


def read(rows: Sequence[Fields]) -> list[Example | Unused]:
    return [_item(fields) for fields in rows]


def turns(transcript: str) -> list[tuple[str, str]] | None:
    """(speaker, text) of each turn; None where it does not alternate from the human's to the assistant's."""
    before, *rest = TURN.split("\n\n" + transcript.lstrip())
    found = [(rest[i], rest[i + 1].strip()) for i in range(0, len(rest), 2)]
    speakers = [speaker for speaker, _ in found]
    if before.strip() or not found or len(found) % 2 or speakers != ["Human", "Assistant"] * (len(found) // 2):
        return None
    return found


def _item(fields: Fields) -> Example | Unused:
    subset = next((name for name in SUBSETS if name in fields.where), None)
    row = f"{subset or PurePath(fields.where).name.split('.')[0]}:{fields.number}"
    chosen, rejected = turns(_transcript(fields, "chosen")), turns(_transcript(fields, "rejected"))
    if chosen is None or rejected is None:
        return Unused(row, "its turns do not alternate")
    if chosen[:-1] != rejected[:-1]:
        return Unused(row, "the two responses follow different conversations")
    prompt = Prompt.of(
        tuple(Message(role="user" if who == "Human" else "assistant", content=text) for who, text in chosen[:-1])
    )
    labels = {"subset": subset} if subset else {}
    return Example(row, prompt, (chosen[-1][1], rejected[-1][1]), labels=labels)


def _transcript(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if text is None:
        raise fields.wrong(name, "missing", "Write a transcript: \\n\\nHuman: ...\\n\\nAssistant: ...")
    return text


def metrics(outcomes: Sequence[Outcome]) -> Scores:
    won = accuracy_of(outcomes)
    if not won:
        return Scores({})
    subset_of = {o.example.id: o.example.labels["subset"] for o in outcomes if "subset" in o.example.labels}
    named = {example: value for example, value in won.items() if example in subset_of}
    return Scores({"overall": mean(won), **grouped(named, subset_of)})


BENCHMARK = Benchmark(
    name="hh_rlhf",
    about="what people preferred as the last turn of a conversation; by subset where the path names it",
    files=("*test*.json*", "*/test*.json*"),
    expects="chosen and rejected, transcripts that begin with \\n\\nHuman: and differ in the last turn of Assistant:",
    read=read,
    metrics=metrics,
    hub=Hub("Anthropic/hh-rlhf", ("test",)),
)
