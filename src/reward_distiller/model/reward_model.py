"""Scoring with any single-label sequence classifier in Hugging Face format, ours or not.

The reward is read at the last token of the rendered chat: the end is known, never searched for, so the
checkpoint's padding token cannot move it. Responses to one prompt share its tokens (a forest of prefix trees)
wherever the model's layers allow it. Knows no training.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import torch
from torch import nn

from reward_distiller.console import say
from reward_distiller.errors import RewardDistillerError
from reward_distiller.model.chat import ChatFormat, Encoded, load_chat
from reward_distiller.model.layout import cut_forests, cut_rows, lay_out
from reward_distiller.model.loading import device_of, load_classifier
from reward_distiller.model.tree_attention import enable_trees, hidden_states

Prompt = str | Sequence[dict[str, str]]
SLOTS = 16384  # distinct tokens, or padded ones, in one forward pass


class TooLong(RewardDistillerError):
    """A response that does not fit the model. Scoring a cut one would be scoring another response."""

    exit_code = 3


class RewardModel:
    """A reward model for use. `score` gives raw rewards; `mean` and `std` are of its training rewards, if known."""

    def __init__(
        self,
        classifier: Any,
        chat: ChatFormat,
        max_length: int | None = None,
        layout: str = "trees",
        devices: Sequence[torch.device] = (),
    ):
        """Each of `devices` gets a copy of the classifier and shares its work."""
        self.chat = chat
        limit = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
        self.max_length = max_length or limit or 2**31
        extra = getattr(classifier.config, "reward_distiller", None) or {}
        self.mean: float | None = extra.get("reward_mean")
        self.std: float | None = extra.get("reward_std")
        self.layout = layout if isinstance(getattr(classifier, "score", None), nn.Linear) else "padded"
        if self.layout == "trees" and (reason := enable_trees(classifier.base_model)):
            say(f"score: {reason}; padded rows are used instead, slower and as exact")
            self.layout = "padded"
        self.classifiers = [classifier.eval(), *(copy.deepcopy(classifier).to(device) for device in devices)]

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
        layout: str = "trees",
    ) -> RewardModel:
        """Load a folder or Hub id. `chat_template` is a file, for checkpoints that carry none.

        All GPUs of the machine share the work unless `device` names one; `layout="padded"` scores without trees.

        Raises ModelError where the checkpoint is no single-label classifier.
        """
        path = str(path)
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        classifier = load_classifier(path, dtype=dtype, **options)
        chat = load_chat(path, template=chat_template, **options)
        every = torch.cuda.device_count() if device in (None, "cuda") else 0
        devices = [torch.device("cuda", i) for i in range(every)] or [device_of(device)]
        return cls(classifier.to(devices[0]), chat, max_length, layout, devices[1:])

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
        """One reward a sequence, in order. `advance` is called once for each."""
        ids = [s.ids for s in sequences]
        batches = cut_forests(ids, SLOTS) if self.layout == "trees" else cut_rows(ids, SLOTS)
        values = [0.0] * len(sequences)
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for classifier in self.classifiers:
            free.put(classifier)

        def run(batch: list[int]) -> None:
            classifier = free.get()
            try:
                rewards = self._forward(classifier, [ids[i] for i in batch])
            finally:
                free.put(classifier)
            for at, value in zip(batch, rewards, strict=True):
                values[at] = value

        if len(self.classifiers) == 1:  # in this thread: a pool's threads would not have its thread settings
            for batch in batches:
                run(batch)
                for _ in batch:
                    advance()
            return values
        with ThreadPoolExecutor(len(self.classifiers)) as pool:
            futures = {pool.submit(run, batch): batch for batch in batches}
            for future in as_completed(futures):
                future.result()
                for _ in futures[future]:
                    advance()
        return values

    def fits(self, prompt: Prompt, responses: Sequence[str]) -> bool:
        """Whether every response is within max_length."""
        return all(len(self.chat.encode(as_messages(prompt), r)) <= self.max_length for r in responses)

    @torch.inference_mode()
    def _forward(self, classifier: Any, sequences: list[tuple[int, ...]]) -> list[float]:
        pad_id = self.chat.tokenizer.pad_token_id
        layout = lay_out(sequences, self.layout, 0 if pad_id is None else pad_id).to(classifier.device)
        head = getattr(classifier, "score", None)
        if isinstance(head, nn.Linear):
            end_ND = hidden_states(classifier.base_model, layout)[layout.ends().to(classifier.device)]
            reward_N = nn.functional.linear(end_ND.float(), head.weight.float()).squeeze(-1)
        else:  # an encoder, or a head of its own: the model knows where it reads
            reward_N = classifier(input_ids=layout.ids_RL, attention_mask=layout.mask_RL).logits.squeeze(-1)
        return reward_N.float().tolist()


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
