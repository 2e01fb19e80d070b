"""What several cards say in the same words: the header, who taught, which prompts, what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import CardData, EvalResult

from reward_distiller.records import content_id

TERMS = "Some providers' terms restrict training on their models' outputs: read the teacher's before you share this."
NO_LICENSE = "No licence is stated here; whoever publishes it states one."


def header(data: CardData) -> str:
    """The YAML block that the Hub reads."""
    return f"---\n{data.to_yaml().strip()}\n---"


def on_the_hub(model: str | None) -> str | None:
    """A model's name where it is one of the Hub's, as far as its form tells."""
    return model if model and model.count("/") == 1 and not model.startswith((".", "/", "~")) else None


def eval_results(
    task: tuple[str, str], sets: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]
) -> list[EvalResult]:
    """One for each figure of each set; `task` is the Hub's type of it and its name."""
    return [
        EvalResult(
            task_type=task[0],
            task_name=task[1],
            dataset_type=name,
            dataset_name=titles.get(name, name),
            metric_type=figure,
            metric_name=f"{figure.replace('_', ' ')}, 95% interval {found['low']:.2f} to {found['high']:.2f}",
            metric_value=round(found["value"], 4),
        )
        for name, figures in sets.items()
        for figure, found in figures.items()
    ]


def prompts_line(prompt_ids: Iterable[str]) -> str:
    """How many prompts, and a hash that tells whether two data sets have the same."""
    ids = sorted(set(prompt_ids))
    return f"{len(ids)} prompts; SHA-256 of their sorted hashes, cut to 16 digits: `{content_id(ids)}`"


def cost_line(cost: Sequence[Mapping[str, Any]]) -> str:
    calls = sum(step["calls"] for step in cost)
    tokens = [sum(step[kind] for step in cost) for kind in ("input_tokens", "output_tokens")]
    known = [step["money"] for step in cost if step["money"] is not None]
    money = f"{sum(known):.2f}" if len(known) == len(cost) else "unknown"
    return f"{calls} answers, {tokens[0]} input tokens, {tokens[1]} output tokens, money {money}"
