"""A trained network as a plain Hugging Face checkpoint: classifier, tokenizer with its chat template, LM head.

Loads with `AutoModelForSequenceClassification` and none of our code. Knows no training and no methods.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from reward_distiller.errors import ModelError
from reward_distiller.files import new_folder
from reward_distiller.model.chat import ChatFormat, load_tokenizer
from reward_distiller.model.loading import LM_HEAD
from reward_distiller.model.network import RewardNetwork, is_tied


def reward_statistics(rewards: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation, by which users of the model can centre and scale its rewards."""
    return {"reward_mean": statistics.fmean(rewards), "reward_std": statistics.pstdev(rewards)}


def _check_tokenizer(chat: ChatFormat, folder: Path) -> None:
    """The tokenizer as others will load it must give the same ids: some model types are loaded with a class of
    their own, whatever class the tokenizer was."""
    reloaded = ChatFormat(load_tokenizer(str(folder)), chat.where)
    prompt = [{"role": "user", "content": "Which is right? 17 + 4 = 21"}]
    for response in ("It is right.", "", "\n* one\n* two  \u00e9\u4e2d"):
        if reloaded.encode(prompt, response) != chat.encode(prompt, response):
            raise ModelError(
                f"the tokenizer of {chat.where} gives other tokens once it is saved and loaded again with this model "
                "type. Use a tokenizer of the model's own family"
            )


def save_reward_model(network: RewardNetwork, chat: ChatFormat, folder: Path, facts: dict[str, Any]) -> None:
    """Write the checkpoint whole or not at all. `facts` go into config.json under `reward_distiller`."""
    classifier = network.classifier
    classifier.config.reward_distiller = json.loads(json.dumps(facts))
    classifier.config.pad_token_id = chat.tokenizer.pad_token_id
    with new_folder(folder) as temporary:
        classifier.save_pretrained(temporary)
        chat.tokenizer.save_pretrained(temporary)
        _check_tokenizer(chat, temporary)
        _save_lm_head(network, temporary)


def _save_lm_head(network: RewardNetwork, folder: Path) -> None:
    """The LM head that was kept for regularization; a tied one is the checkpoint's embedding and needs no file."""
    if network.lm_head is not None and not is_tied(network):
        state = {f"lm_head.{k}": v.detach().cpu().contiguous() for k, v in network.lm_head.state_dict().items()}
        save_file(state, folder / LM_HEAD, metadata={"format": "pt"})
