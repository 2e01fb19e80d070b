"""The model card that is saved with a reward model: method, teacher, data, cost, evaluation, scale of the rewards."""

from __future__ import annotations

from typing import Any

import yaml

from reward_distiller.balance import Balance
from reward_distiller.config import Config
from reward_distiller.evaluate.benchmarks import BENCHMARKS
from reward_distiller.model.critiques import CritiqueNeed


def model_card(config: Config, method: str, results: dict[str, Any], balances: list[Balance]) -> str:
    """Markdown with the Hub's YAML header, from what a run found out."""
    facts, cost = results["training"], results["cost"]
    base = config.student.model or "from scratch"
    header: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-classification"}
    header["tags"] = ["reward-model", "reward-distiller"]
    if config.student.model and config.student.model != "testbed" and "/" in config.student.model:
        header["base_model"] = config.student.model
    teacher = config.teacher.model if config.teacher else "recorded scores"
    calls = sum(step["calls"] for step in cost)
    tokens = [sum(step[kind] for step in cost) for kind in ("input_tokens", "output_tokens")]
    money = [step["money"] for step in cost]
    price = "unknown" if None in money else f"{sum(m for m in money if m is not None):.2f}"
    sources = ", ".join(f"{count} {source}" for source, count in facts["pairs_by_source"].items())
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False).strip(),
        "---",
        "# Reward model",
        "",
        "Distilled with Reward Distiller. Load it with `AutoModelForSequenceClassification`; the reward is its one",
        "logit, read at the last token of the conversation as the tokenizer's chat template renders it.",
        *_needs(CritiqueNeed.of(facts["needs_at_inference"])),
        "",
        f"- **Method:** {method}",
        f"- **Student:** {base}",
        f"- **Teacher:** {teacher}. Some providers' terms restrict training on their models' outputs.",
        f"- **Training pairs:** {facts['pairs']} ({sources}), {facts['steps']} optimizer steps, seed {config.seed}",
        f"- **Rewards in training:** mean {facts['reward_mean']:.4f}, standard deviation {facts['reward_std']:.4f}",
        f"- **Cost:** {calls} answers, {tokens[0]} input tokens, {tokens[1]} output tokens, money {price}",
        "",
        "## Data",
        "",
        *(f"- {balance.line()}" for balance in balances),
        *(f"- train: {count} pairs: {reason}" for reason, count in facts["dropped"].items()),
        "",
        evaluation_section(results),
    ]
    return "\n".join(lines)


def _needs(need: CritiqueNeed | None) -> list[str]:
    """What a user must do beyond giving prompt and response."""
    if need is None:
        return []
    writer = {
        "teacher": "The critique must be written by the teacher, or by a model like it.",
        "self": "The model writes it itself: `RewardModel` does that, with the LM head saved beside the classifier.",
    }[need.source]
    return [
        "",
        "**It reads a critique.** Behind the response stand a user's turn and a critique as the assistant's last turn:",
        f"`{need.request}` Without one its rewards mean nothing. {writer}",
    ]


def evaluation_section(results: dict[str, Any]) -> str:
    """The figures of a run as Markdown."""
    lines = ["## Evaluation", ""]
    tests = {"held_out": "held-out prompts", "testbed": "testbed", **{name: name for name in BENCHMARKS}}
    for group, title in tests.items():
        figures = {n: f for n, f in results.get(group, {}).items() if isinstance(f, dict)}
        for name, figure in figures.items():
            if "." in name:  # a part of another figure; results.json has it
                continue
            span = f"95% interval {figure['low']:.1f} to {figure['high']:.1f}, {figure['n']} prompts"
            lines.append(f"- {title}, {name.replace('_', ' ')}: {figure['value']:.1f}% ({span})")
    return "\n".join([*(lines if len(lines) > 2 else [*lines, "Not evaluated."]), ""])
