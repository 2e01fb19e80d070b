"""The model card that is saved with a reward model: method, teacher, data, cost, figures, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huggingface_hub import ModelCardData

from reward_distiller.balance import Balance
from reward_distiller.config import Config
from reward_distiller.evaluate.benchmarks import BENCHMARKS
from reward_distiller.model.critiques import CritiqueNeed
from reward_distiller.recipes.cards.sentences import (
    NO_LICENSE,
    TERMS,
    cost_line,
    eval_results,
    header,
    on_the_hub,
    prompts_line,
)
from reward_distiller.records import Pair

TASK = ("text-classification", "reward modeling")
TITLES = {"held_out": "held-out prompts", "testbed": "testbed", **{name: name for name in BENCHMARKS}}


def reward_model_card(
    config: Config, method: str, results: dict[str, Any], balances: Sequence[Balance], trained_on: Sequence[Pair]
) -> str:
    """Markdown with the Hub's YAML header, from what a run found out."""
    facts = results["training"]
    teacher = config.teacher.model if config.teacher else "recorded scores"
    sources = ", ".join(f"{count} {source}" for source, count in facts["pairs_by_source"].items())
    lines = [
        header(_header(config, results)),
        "# Reward model",
        "",
        "Distilled with Reward Distiller. Load it with `AutoModelForSequenceClassification`; the reward is its one",
        "logit, read at the last token of the conversation as the tokenizer's chat template renders it.",
        *_needs(CritiqueNeed.of(facts["needs_at_inference"])),
        "",
        f"- **Method:** {method}",
        f"- **Student:** {config.student.model or 'from scratch'}",
        f"- **Teacher:** {teacher}. {TERMS}",
        f"- **Licence:** {NO_LICENSE}",
        f"- **Training pairs:** {facts['pairs']} ({sources}), {facts['steps']} optimizer steps, seed {config.seed}",
        f"- **Training prompts:** {prompts_line(pair.prompt.id for pair in trained_on)}",
        f"- **Rewards in training:** mean {facts['reward_mean']:.4f}, standard deviation {facts['reward_std']:.4f}",
        f"- **Cost:** {cost_line(results['cost'])}",
        "",
        "## Data",
        "",
        *(f"- {balance.line()}" for balance in balances),
        *(f"- train: {count} pairs: {reason}" for reason, count in facts["dropped"].items()),
        "",
        evaluation_section(results),
        *_limits(config, results),
    ]
    return "\n".join(lines)


def _header(config: Config, results: dict[str, Any]) -> ModelCardData:
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["reward-model", "reward-distiller"],
        base_model=on_the_hub(config.student.model),
        model_name="reward-model",
        eval_results=eval_results(TASK, _figures(results), TITLES),
    )


def _figures(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each test set what it says of the model; parts of figures and trivial scorers are in results.json."""
    trivial = {"longer_response", "source_model"}
    found = {
        group: {
            name: figure
            for name, figure in results.get(group, {}).items()
            if isinstance(figure, dict) and "value" in figure and "." not in name and name not in trivial
        }
        for group in TITLES
    }
    return {group: figures for group, figures in found.items() if figures}


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
    for group, title in TITLES.items():
        figures = {n: f for n, f in results.get(group, {}).items() if isinstance(f, dict)}
        for name, figure in figures.items():
            if "." in name:  # a part of another figure; results.json has it
                continue
            span = f"95% interval {figure['low']:.1f} to {figure['high']:.1f}, {figure['n']} prompts"
            lines.append(f"- {title}, {name.replace('_', ' ')}: {figure['value']:.1f}% ({span})")
    return "\n".join([*(lines if len(lines) > 2 else [*lines, "Not evaluated."]), ""])


def _style(title: str, style: dict[str, Any]) -> list[str]:
    """What of a response's form moves its reward, where the rest of the form stays, and quality where it is known."""
    known = {name: figure for name, figure in style.items() if None not in (figure["value"], figure["low"])}
    found = [f"{n} {f['value']:+.2f} ({f['low']:+.2f} to {f['high']:+.2f})" for n, f in known.items()]
    return [f"- Style, {title}, partial correlation with the reward: {', '.join(found)}."] if found else []


def _limits(config: Config, results: dict[str, Any]) -> list[str]:
    lines = [
        "## Limits",
        "",
        "- Only differences between rewards of responses to one prompt were trained; between prompts they mean little.",
        f"- It was trained on at most {config.training.max_length} tokens of a conversation.",
        "- It has learned one teacher's preferences, with that teacher's errors and likings.",
    ]
    longer, ours = (results.get("held_out", {}).get(name) for name in ("longer_response", "accuracy"))
    if longer and ours:
        lines.append(
            f"- Length: always to prefer the longer response is right in {longer['value']:.1f}% of the held-out pairs, "
            f"the model in {ours['value']:.1f}%."
        )
    for group, audit in results.get("bias_audit", {}).items():
        lines += _style(TITLES.get(group, group), audit.get("style", {}))
    if "testbed" in results:
        lines.append("- The testbed is a synthetic language. It says nothing of any other.")
    return [*lines, ""]
