"""The model card that is saved with a policy: what it started from, what was maximised, and what that did to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from huggingface_hub import ModelCardData

from reward_distiller.config import RewardTerm, RLConfig
from reward_distiller.recipes.cards.sentences import (
    NO_LICENSE,
    TERMS,
    cost_line,
    eval_results,
    header,
    on_the_hub,
    prompts_line,
)

TASK = ("text-generation", "responses to the evaluation prompts")
SET = {"evaluation": "evaluation prompts"}


def policy_card(config: RLConfig, results: dict[str, Any], trained_on: Sequence[str]) -> str:
    """Markdown with the Hub's YAML header. `trained_on` are the ids of the prompts."""
    after, before = results.get("policy", {}), results.get("start", {})
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["reward-distiller", config.algorithm],
        base_model=on_the_hub(config.policy.model),
        model_name="policy",
        eval_results=eval_results(TASK, {"evaluation": after}, SET),
    )
    lines = [
        header(data),
        "# Policy",
        "",
        "Trained with Reward Distiller. Load it with `AutoModelForCausalLM` and render prompts by its chat template.",
        "",
        f"- **Algorithm:** {config.algorithm}, seed {config.seed}",
        f"- **Started from:** {config.policy.model or 'another run of Reward Distiller'}",
        *([f"- **Maximised:** {_sum(config)}"] if config.rewards else [f"- **Demonstrations:** {TERMS}"]),
        f"- **Licence:** {NO_LICENSE}",
        f"- **Training prompts:** {prompts_line(trained_on)}",
        f"- **Cost of judges:** {cost_line(results['cost'])}",
        "",
        "## Evaluation",
        "",
        *(_line(name, figure, before.get(name)) for name, figure in after.items()),
        *([] if after else ["Not evaluated."]),
        "",
        "## Limits",
        "",
        "- What is maximised stands for what is wanted. A higher reward is not by itself a better response.",
        "- The evaluation prompts are of the same kind as the training prompts, and are not among them.",
        "",
    ]
    return "\n".join(lines)


def _sum(config: RLConfig) -> str:
    return " + ".join(f"{term.weight:g} x {name} ({_kind(term)})" for name, term in config.rewards.items())


def _kind(term: RewardTerm) -> str:
    if term.model or term.made_by:
        return f"reward model {term.model}" if on_the_hub(term.model) else "a reward model"
    settings = term.model_dump(exclude_defaults=True).keys() - {"weight", "center", "scale"}
    return ", ".join(sorted(settings))


def _line(name: str, figure: dict[str, Any], before: dict[str, Any] | None) -> str:
    start = f"; {before['value']:.2f} at the start" if before else ""
    return f"- {name}: {figure['value']:.2f} (95% interval {figure['low']:.2f} to {figure['high']:.2f}{start})"
