"""What else is asked of a scorer besides its figures on benchmarks: calibration, biases, and what it had seen before.

Each adds a section to an evaluation's results. Answers are kept as those of benchmarks are (`answering.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reward_distiller.console import say
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.answers import Answer, NoAnswer, Rewards, Scorer, outcome
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.benchmarks.strengths import STRENGTH_SETS, load
from reward_distiller.evaluate.bias_audit import flip_rates, style_correlations
from reward_distiller.evaluate.calibration import of_outcomes
from reward_distiller.evaluate.contamination import contamination, text_of
from reward_distiller.files import read_rows, write_rows
from reward_distiller.recipes.answering import Loaded, answers_of
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields


def calibrations(scorer: Scorer, named: Sequence[tuple[str, str]], output: Path) -> dict[str, Any]:
    """Margins against a real teacher's strengths of preference, by set. Raises ConfigError for a set that is none."""
    for name, _ in named:
        if name not in STRENGTH_SETS:
            raise ConfigError(f"calibration: {name!r} is none of {', '.join(STRENGTH_SETS)}")
    found = {}
    for name, path in named:
        examples, strengths, balance = load(STRENGTH_SETS[name], path)
        say(balance.line())
        answers = answers_of(scorer, examples, output / "answers" / f"calibration-{name}.jsonl")
        outcomes = [outcome(e, a) for e, a in zip(examples, answers, strict=True) if not isinstance(a, NoAnswer)]
        rows = {**balance.as_dict(), "examples": len(examples), "no_answer": len(examples) - len(outcomes)}
        calibrated = of_outcomes(outcomes, strengths).as_dict() if outcomes else {}
        found[name] = {"unit": STRENGTH_SETS[name].unit, **calibrated, "rows": rows}
    return found


def bias_audits(scorer: Scorer, answered: Sequence[tuple[Loaded, Sequence[Answer]]], output: Path) -> dict[str, Any]:
    """What of a response's style moves its reward, and which edits turn an order around, by benchmark.

    Raises ConfigError for a scorer that compares responses instead of rewarding each.
    """
    found = {}
    for item, answers in answered:
        name = item.benchmark.name
        pairs = list(zip(item.examples, answers, strict=True))
        if not all(isinstance(answer, Rewards | NoAnswer) for answer in answers):
            raise ConfigError("a bias audit needs a reward of each response; this scorer compares two by two")
        given = [(example, answer.values) for example, answer in pairs if isinstance(answer, Rewards)]

        def rewards_of(
            rows: Sequence[tuple[Prompt, Sequence[str]]], file: Path = output / "answers" / f"edits-{name}.jsonl"
        ) -> list[list[float] | None]:
            edited = [Example(str(at), prompt, tuple(texts)) for at, (prompt, texts) in enumerate(rows)]
            return [list(a.values) if isinstance(a, Rewards) else None for a in answers_of(scorer, edited, file)]

        if not any(not example.tied for example, _ in given):
            continue
        style = style_correlations([example for example, _ in given], [values for _, values in given])
        found[name] = {
            "style": {feature: {**one.partial.as_dict(), "differing": one.differing} for feature, one in style.items()},
            "edits": [rate.as_dict() for rate in flip_rates([example for example, _ in given], rewards_of)],
        }
    return found


def contaminations(training: Sequence[tuple[str, str]] | None, sets: Sequence[Loaded], output: Path) -> dict[str, Any]:
    """Training prompts, (id, text), that the benchmarks ask as well; contamination.jsonl lists them."""
    if training is None:
        return {"checked": False, "why": "the training prompts are not known; name their file: --training FILE"}
    listed, counts = [], {}
    for item in sets:
        asked = {e.prompt.id: (e.id, text_of(e.prompt)) for e in item.examples}
        asked_text = dict(asked.values())
        matches = contamination(training, list(asked.values()))
        counts[item.benchmark.name] = matches.counts()
        for match in matches.matches:
            found = {**asdict(match), "example": match.benchmark, "benchmark": item.benchmark.name}
            listed.append({**found, "prompt": asked_text[match.benchmark]})
    write_rows(output / "contamination.jsonl", listed)
    return {"checked": True, "training_prompts": len(training), "benchmarks": counts}


def training_prompts(file: Path) -> list[tuple[str, str]]:
    """The distinct prompts of a file's rows, each under the number of its first row."""
    found: dict[str, tuple[str, str]] = {}
    for number, row in read_rows(file):
        prompt = Fields(str(file), number, row, {}).prompt()
        found.setdefault(prompt.id, (f"row {number}", text_of(prompt)))
    return list(found.values())


def training_file_of(model: str) -> Path | None:
    """The pairs that a model of ours was trained on, where they lie beside it as a run leaves them."""
    file = Path(model).parent / "pairs.jsonl"
    return file if Path(model).is_dir() and file.is_file() else None
