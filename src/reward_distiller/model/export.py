"""A trained network as a plain Hugging Face checkpoint: classifier, tokenizer with its chat template, model card.

Loads with `AutoModelForSequenceClassification` and none of our code. Knows no training and no methods:
what the card says is handed in.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_distiller.files import new_folder, write_text
from reward_distiller.model.chat import ChatFormat
from reward_distiller.model.network import RewardNetwork, save_lm_head


def reward_statistics(rewards: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation, by which users of the model can centre and scale its rewards."""
    return {"reward_mean": statistics.fmean(rewards), "reward_std": statistics.pstdev(rewards)}


def save_reward_model(network: RewardNetwork, chat: ChatFormat, folder: Path, facts: dict[str, Any], card: str) -> None:
    """Write the checkpoint whole or not at all. `facts` go into config.json under `reward_distiller`."""
    classifier = network.classifier
    classifier.config.reward_distiller = json.loads(json.dumps(facts))
    classifier.config.pad_token_id = chat.tokenizer.pad_token_id
    with new_folder(folder) as temporary:
        classifier.save_pretrained(temporary)
        chat.tokenizer.save_pretrained(temporary)
        save_lm_head(network, temporary)
        write_text(temporary / "README.md", card)
