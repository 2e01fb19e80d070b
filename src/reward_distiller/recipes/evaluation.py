"""Recipe `evaluate`: a scorer's figures on benchmarks, with intervals, and what else a careful reader asks of it.

The folder holds results.json, table.md, environment.json, answers/BENCHMARK.jsonl, and what was listed on the way
(contamination.jsonl, a judge's quarantine.jsonl). Knows neither what a scorer nor what a benchmark is made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.answers import Answer, Comparisons, NoAnswer, Scorer, outcome
from reward_distiller.evaluate.benchmarks.protocol import Example, Outcome
from reward_distiller.evaluate.metrics import difference, figure
from reward_distiller.evaluate.verdicts import Judged, Verdict
from reward_distiller.evaluate.verdicts import metrics as verdict_metrics
from reward_distiller.files import locked, remove_partial, write_json, write_rows, write_text
from reward_distiller.recipes.answering import Loaded, answers_of
from reward_distiller.recipes.audits import bias_audits, calibrations, contaminations
from reward_distiller.recipes.environment import write_environment
from reward_distiller.recipes.evaluation_table import table


def evaluate(
    scorer: Scorer,
    sets: Sequence[Loaded],
    output: Path,
    *,
    against: Scorer | None = None,
    calibration: Sequence[tuple[str, str]] = (),
    bias_audit: bool = False,
    training: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Give what results.json holds.

    `against` adds the paired difference to another scorer on each figure, `calibration` names sets of real preference
    strengths with their paths, `training` holds the prompts that the scorer was trained on, (id, text).
    """
    with locked(output / ".lock", ConfigError):
        remove_partial(output)
        results: dict[str, Any] = {"scorer": scorer.identity, "benchmarks": {}}
        if against is not None:
            results["against"] = against.identity
        answered: list[tuple[Loaded, list[Answer]]] = []
        for item in sets:
            name = item.benchmark.name
            answers = answers_of(scorer, item.examples, output / "answers" / f"{name}.jsonl")
            answered.append((item, answers))
            others = None
            if against is not None:
                others = answers_of(against, item.examples, output / "answers-against" / f"{name}.jsonl")
            results["benchmarks"][name] = figures(item, answers, others)
        if calibration:
            results["calibration"] = calibrations(scorer, calibration, output)
        if bias_audit:
            results["bias_audit"] = bias_audits(scorer, answered, output)
        results["contamination"] = contaminations(training, sets, output)
        results["cost"] = [*_cost_of(scorer), *_cost_of(against)]
        if quarantine := getattr(scorer, "quarantine", None):
            write_rows(output / "quarantine.jsonl", quarantine)
        write_environment(output)
        write_text(output / "table.md", table(results))
        write_json(output / "results.json", results)
    return results


def _cost_of(scorer: Scorer | None) -> list[dict[str, Any]]:
    """What a scorer that asks others was billed for, by step and model."""
    cost = getattr(scorer, "cost", None)
    return cost() if cost else []


def figures(item: Loaded, answers: Sequence[Answer], others: Sequence[Answer] | None) -> dict[str, Any]:
    """Metrics with their intervals, what became of the rows, and what has no answer."""
    outcomes = _outcomes(item.examples, answers)
    silent = Counter(answer.reason for answer in answers if isinstance(answer, NoAnswer))
    rows = {**item.balance.as_dict(), "examples": len(item.examples), "no_answer": dict(sorted(silent.items()))}
    if not outcomes:
        return {"metrics": {}, "rows": rows, "notes": ["no example has an answer"]}
    prompt_of = {example.id: example.prompt.id for example in item.examples}
    scores = item.benchmark.metrics(outcomes)
    metrics = {name: figure(metric, prompt_of).as_dict() for name, metric in scores.metrics.items()}
    metrics |= _of_verdicts(item.examples, answers)
    found: dict[str, Any] = {"metrics": metrics, "rows": rows, "notes": scores.notes}
    if others is not None:
        found["difference"] = _differences(item, outcomes, _outcomes(item.examples, others), prompt_of)
    return found


def _outcomes(examples: Sequence[Example], answers: Sequence[Answer]) -> list[Outcome]:
    return [outcome(e, a) for e, a in zip(examples, answers, strict=True) if not isinstance(a, NoAnswer)]


def _of_verdicts(examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, Any]:
    """How right and how steady a judge is that compares two by two, over all of its comparisons."""
    given = [(e, a) for e, a in zip(examples, answers, strict=True) if isinstance(a, Comparisons)]
    both_asked = any(len(a.margins) > len(e.comparisons) for e, a in given)
    found, prompt_of = [], {}
    for example, answer in given:
        margins = {(i, j): margin for i, j, margin in answer.margins}
        for i, j in example.comparisons:
            name = f"{example.id}:{i}:{j}"
            found.append(_judged(name, example.tied, margins.get((i, j)), margins.get((j, i)), both_asked))
            prompt_of[name] = example.prompt.id
    return {f"judge.{name}": figure(metric, prompt_of).as_dict() for name, metric in verdict_metrics(found).items()}


def _judged(name: str, tied: bool, first: float | None, swapped: float | None, both_asked: bool) -> Judged:
    """A comparison's verdicts; where one order was asked, the pair stands in that order."""
    if both_asked:
        turned = None if swapped is None else -swapped
        return Judged(name, "tie" if tied else "first", _verdict(first), _verdict(turned))
    if first is not None:
        return Judged(name, "tie" if tied else "first", _verdict(first))
    return Judged(name, "tie" if tied else "second", _verdict(swapped))


def _verdict(margin: float | None) -> Verdict | None:
    if margin is None:
        return None
    return "first" if margin > 0 else "second" if margin < 0 else "tie"


def _differences(
    item: Loaded, ours: Sequence[Outcome], theirs: Sequence[Outcome], prompt_of: dict[str, str]
) -> dict[str, Any]:
    """Of each figure, on the examples that both have answered."""
    both = {o.example.id for o in ours} & {o.example.id for o in theirs}
    if not both:
        return {}
    mine, other = (item.benchmark.metrics([o for o in side if o.example.id in both]) for side in (ours, theirs))
    found = {name: difference(mine.metrics[name], other.metrics[name], prompt_of) for name in mine.metrics}
    return {name: {**change.figure.as_dict(), "p": change.p} for name, change in found.items()}
