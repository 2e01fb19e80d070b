"""A scorer's answers to the examples of benchmarks, kept under the hash of scorer and example while they come.

So a killed evaluation goes on, and asking again asks for nothing twice. Knows neither what a scorer nor what a
benchmark is made of, and no figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.console import say, track
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.answers import Answer, Scorer, as_json, from_json
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example
from reward_distiller.evaluate.benchmarks.reading import load
from reward_distiller.files import append_rows, write_rows
from reward_distiller.recipes.kept import kept
from reward_distiller.records import content_id

CHUNK = 128  # examples answered between two writes: what a killed evaluation loses at most


@dataclass(frozen=True)
class Loaded:
    """A benchmark with its examples, and what became of its rows."""

    benchmark: Benchmark
    examples: list[Example]
    balance: Balance


def load_all(named: Sequence[tuple[Benchmark, str | None]]) -> list[Loaded]:
    """Every benchmark read and checked, before anything is scored."""
    twice = [name for name, count in Counter(b.name for b, _ in named).items() if count > 1]
    if twice:
        raise ConfigError(f"benchmark {twice[0]} is named twice. Evaluate its other file into another folder")
    loaded = []
    for benchmark, path in named:
        examples, balance = load(benchmark, path)
        say(balance.line())
        loaded.append(Loaded(benchmark, examples, balance))
    return loaded


def answers_of(scorer: Scorer, examples: Sequence[Example], file: Path) -> list[Answer]:
    """One answer an example: those that the file has, and for the others the scorer's, longest last."""
    whose = content_id(scorer.identity)
    keys = [content_id([whose, e.prompt.id, list(e.responses)]) for e in examples]
    known = kept(file, from_json, "its example is scored again")
    wanted = {key: e for key, e in zip(keys, examples, strict=True) if key not in known}
    to_do = sorted(wanted.items(), key=lambda item: sum(map(len, item[1].responses)))
    if to_do:
        write_rows(file, (_row(key, known[key]) for key in keys if key in known))  # no torn line of a killed run
        with track(file.stem, sum(len(e.responses) for _, e in to_do)) as advance:
            for start in range(0, len(to_do), CHUNK):
                part = to_do[start : start + CHUNK]
                fresh = scorer.answer([e for _, e in part], advance)
                known.update(zip((key for key, _ in part), fresh, strict=True))
                append_rows(file, (_row(key, known[key]) for key, _ in part))
    ids = {key: e.id for key, e in zip(keys, examples, strict=True)}
    write_rows(file, (_row(key, known[key], example=ids[key]) for key in ids))
    return [known[key] for key in keys]


def _row(key: str, answer: Answer, **more: str) -> dict[str, Any]:
    return {"key": key, **more, **as_json(answer)}
