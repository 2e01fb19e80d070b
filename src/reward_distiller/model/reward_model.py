"""Scoring with any single-label sequence classifier in Hugging Face format, ours or not.

The reward is read at the last token of the rendered chat: the end is known, never searched for, so the
checkpoint's padding token cannot move it. Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers
from torch import nn

from reward_distiller.errors import ModelError, RewardDistillerError
from reward_distiller.model.batches import by_length, pad
from reward_distiller.model.chat import ChatFormat, Encoded, first_line, load_tokenizer, read_template
from reward_distiller.model.network import device_of

Prompt = str | Sequence[dict[str, str]]
SLOTS = 16384  # padded tokens in one forward pass


class TooLong(RewardDistillerError):
    """A response that does not fit the model. Scoring a cut one would be scoring another response."""

    exit_code = 3


class RewardModel:
    """A reward model for use. `score` gives raw rewards; `mean` and `std` are of its training rewards, if known."""

    def __init__(self, classifier: Any, chat: ChatFormat, max_length: int | None = None):
        self.classifier, self.chat = classifier.eval(), chat
        limit = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
        self.max_length = max_length or limit or 2**31
        extra = getattr(classifier.config, "reward_distiller", None) or {}
        self.mean: float | None = extra.get("reward_mean")
        self.std: float | None = extra.get("reward_std")

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        *,
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        max_length: int | None = None,
    ) -> RewardModel:
        """Load a folder or Hub id. `chat_template` is a file, for checkpoints that carry none.

        Raises ModelError where the checkpoint is no single-label classifier.
        """
        path = str(path)
        try:
            config = transformers.AutoConfig.from_pretrained(
                path, revision=revision, trust_remote_code=trust_remote_code
            )
            architectures = config.architectures or []
            if not any(name.endswith("SequenceClassification") for name in architectures) and not trust_remote_code:
                raise ModelError(
                    f"{path} holds {', '.join(architectures) or 'no named model'}, not a reward model: its head would "
                    "be random. Distil one first: reward-distiller run CONFIG"
                )
            if config.num_labels != 1:
                raise ModelError(f"{path} has {config.num_labels} labels; a reward model has one")
            classifier = transformers.AutoModelForSequenceClassification.from_pretrained(
                path, revision=revision, trust_remote_code=trust_remote_code, dtype=dtype
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"no reward model can be loaded from {path} ({first_line(error)})") from error
        tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=trust_remote_code)
        if chat_template:
            tokenizer.chat_template = read_template(chat_template)
        return cls(classifier.to(device_of(device)), ChatFormat(tokenizer, path), max_length)

    def score(self, prompt: Prompt, responses: Sequence[str]) -> list[float]:
        """The rewards of responses to one prompt (text, or messages that end with the user's turn)."""
        return self.score_rows([(prompt, responses)])[0]

    def score_rows(
        self, rows: Sequence[tuple[Prompt, Sequence[str]]], advance: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        """Rewards of every row's responses, in the rows' order. Raises TooLong before any is computed."""
        sequences, places = [], []
        for number, (prompt, responses) in enumerate(rows):
            for response in responses:
                encoded = self.chat.encode(as_messages(prompt), response)
                if len(encoded) > self.max_length:
                    raise TooLong(
                        f"row {number + 1}: a response makes {len(encoded)} tokens, over max_length={self.max_length}. "
                        "Remove it, or raise max_length if the model can read that far"
                    )
                sequences.append(encoded)
                places.append(number)
        rewards: list[list[float]] = [[] for _ in rows]
        for place, value in zip(places, self.score_encoded(sequences, advance), strict=True):
            rewards[place].append(value)
        return rewards

    def score_encoded(self, sequences: Sequence[Encoded], advance: Callable[[], None] = lambda: None) -> list[float]:
        """One reward a sequence, in order; computed in batches of like length."""
        values = [0.0] * len(sequences)
        for batch in by_length([len(s) for s in sequences], SLOTS):
            for at, value in zip(batch, self._forward([sequences[i] for i in batch]), strict=True):
                values[at] = value
                advance()
        return values

    def fits(self, prompt: Prompt, responses: Sequence[str]) -> bool:
        """Whether every response is within max_length."""
        return all(len(self.chat.encode(as_messages(prompt), r)) <= self.max_length for r in responses)

    @torch.inference_mode()
    def _forward(self, sequences: Sequence[Encoded]) -> list[float]:
        pad_id = self.chat.tokenizer.pad_token_id
        batch = pad(sequences, 0 if pad_id is None else pad_id, self.classifier.device)
        head = getattr(self.classifier, "score", None)
        if isinstance(head, nn.Linear):
            states = self.classifier.base_model(input_ids=batch.ids_NL, attention_mask=batch.mask_NL, use_cache=False)
            rows = torch.arange(len(sequences), device=batch.end_N.device)
            reward_N = head(states.last_hidden_state[rows, batch.end_N]).squeeze(-1)
        else:  # an encoder, or a head of its own: the model knows where it reads
            reward_N = self.classifier(input_ids=batch.ids_NL, attention_mask=batch.mask_NL).logits.squeeze(-1)
        return reward_N.float().tolist()


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
