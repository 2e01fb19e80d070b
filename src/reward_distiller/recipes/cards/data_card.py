"""The data set card of a run's pairs: where they come from, who judged them, their columns, what became of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import DatasetCardData

from reward_distiller.balance import Balance
from reward_distiller.config import Config
from reward_distiller.recipes.cards.sentences import NO_LICENSE, TERMS, cost_line, header, prompts_line
from reward_distiller.records import Pair

FILE = "pairs.jsonl"
SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6, "1M<n<10M": 1e7}
COLUMNS = {
    "id, prompt_id": "hashes of the pair and of its prompt",
    "prompt, chosen, rejected": "messages with `role` and `content`, as TRL's trainers read preferences",
    "chosen_score, rejected_score": "what the teacher gave them, from 1 to 10; null where nobody did",
    "teacher_response": "the teacher's own response to the prompt",
    "chosen_critique, rejected_critique": "its critiques, where the method asks for them",
    "chosen_attributes, rejected_attributes": "its scores by attribute, where the method asks for them",
    "source": "`sampled` of candidates, `refined` by the teacher, `rewritten` by it, or `labeled` by somebody else",
    "provenance": "who wrote the responses, what a refined one was made of, and the teacher's diagnosis",
}


def data_card(
    config: Config, pairs: Sequence[Pair], balances: Sequence[Balance], cost: Sequence[Mapping[str, Any]]
) -> str:
    """Markdown with the Hub's YAML header; its viewer finds the pairs by it."""
    teacher = config.teacher.model if config.teacher else None
    sources = ", ".join(f"{count} {source}" for source, count in sorted(Counter(p.source for p in pairs).items()))
    candidates = ", ".join(model.model for model in config.candidates)
    size = next((name for name, limit in SIZES.items() if len(pairs) < limit), "10M<n<100M")
    data = DatasetCardData(
        tags=["preference", "reward-distiller"],
        size_categories=size,
        configs=[{"config_name": "default", "data_files": [{"split": "train", "path": FILE}]}],
    )
    lines = [
        header(data),
        "# Preference pairs",
        "",
        "Made with Reward Distiller for the training of a reward model. Each row is a prompt with two responses.",
        "",
        f"- **Pairs:** {len(pairs)} ({sources})",
        f"- **Prompts:** {prompts_line(pair.prompt.id for pair in pairs)}",
        *([f"- **Responses by:** {candidates}"] if candidates else []),
        f"- **Judged by:** {f'{teacher}. {TERMS}' if teacher else 'whoever made the rows; no teacher was asked'}",
        f"- **Licence:** {NO_LICENSE}",
        f"- **Cost:** {cost_line(cost)}",
        "",
        "## Columns",
        "",
        *(f"- `{name.replace(', ', '`, `')}`: {about}" for name, about in COLUMNS.items()),
        "",
        "## What became of what went in",
        "",
        *(f"- {balance.line()}" for balance in balances),
        "",
        "## Limits",
        "",
        "- Preferences are one model's, with its errors and its likings; nobody has checked them by hand.",
        "- Texts are as models wrote them. They may be wrong, or offend.",
        "- Prompts may stand in benchmarks as well: `reward-distiller evaluate --training` looks for them.",
        "",
    ]
    return "\n".join(lines)
