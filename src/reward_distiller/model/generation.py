"""Greedy generation with a reward model's own parts: its backbone and the LM head that was kept beside the reward head.

`transformers` generates, batched and with a key-value cache; this file says from what, when to stop, and leaves the
model as it was found: its attention implementation, its mode, its generation settings. Knows no rewards.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn

from reward_distiller.errors import ModelError
from reward_distiller.model.chat import ChatFormat, Messages, first_line
from reward_distiller.model.layout import cut_rows
from reward_distiller.model.tree_attention import NAME as TREES

SLOTS = 16384  # padded tokens of a batch, those to be generated included


def causal_lm(classifier: Any, lm_head: nn.Module, *, trust_remote_code: bool = False) -> Any:
    """A causal LM that shares its weights with a classifier's backbone and an LM head; nothing is copied.

    Raises ModelError for an architecture that has none in transformers.
    """
    config = copy.deepcopy(classifier.config)
    try:
        with torch.device("meta"):
            lm = transformers.AutoModelForCausalLM.from_config(
                config, dtype=classifier.dtype, trust_remote_code=trust_remote_code
            )
        setattr(lm, lm.base_model_prefix, classifier.base_model)
        lm.set_output_embeddings(lm_head)
    except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ModelError(f"{type(classifier).__name__} has no causal LM to write with ({first_line(error)})") from error
    left = [name for name, tensor in (*lm.named_parameters(), *lm.named_buffers()) if tensor.is_meta]
    if left:
        raise ModelError(f"{type(lm).__name__} has weights that no reward model keeps: {', '.join(left[:3])}")
    return lm


class Generator:
    """Continues conversations with the assistant's next turn, its most probable token at each step.

    A turn ends where the chat format ends one, or at `max_new_tokens`, which bounds its text's own tokens as well.
    `slots` bounds the memory of a batch.
    """

    def __init__(self, lm: Any, chat: ChatFormat, max_new_tokens: int, slots: int = SLOTS):
        self.lm, self.chat, self.max_new_tokens, self.slots = lm, chat, max_new_tokens, slots

    def generate(self, conversations: Sequence[Messages], advance: Callable[[], None] = lambda: None) -> list[str]:
        """The turns' texts, in order, stripped. `advance` is called once for each."""
        if not conversations:
            return []
        openings = [self.chat.opening(messages) for messages in conversations]
        stops = {self.chat.end_token_id(), self.chat.tokenizer.eos_token_id} - {None}
        settings = transformers.GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=sorted(stops) or None,
            pad_token_id=self._pad(),
        )
        room = [(*ids, *[0] * self.max_new_tokens) for ids in openings]
        texts = [""] * len(openings)
        with _ready(self.lm):
            for batch in cut_rows(room, self.slots):
                for at, ids in zip(batch, self._continue([openings[i] for i in batch], settings), strict=True):
                    texts[at] = self._text(ids, stops)
                    advance()
        return texts

    def _pad(self) -> int:
        """Any token does, for padding is masked and what is generated is cut at its end."""
        pad = self.chat.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)

    def _continue(self, openings: list[tuple[int, ...]], settings: Any) -> list[list[int]]:
        """The tokens behind each opening, those behind its end included. Padding is on the left."""
        width = max(map(len, openings))
        ids_RL = torch.tensor([[settings.pad_token_id] * (width - len(ids)) + list(ids) for ids in openings])
        mask_RL = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in openings])
        device = self.lm.device
        output_RL = self.lm.generate(ids_RL.to(device), attention_mask=mask_RL.to(device), generation_config=settings)
        return output_RL[:, width:].tolist()

    def _text(self, ids: list[int], stops: set[int]) -> str:
        """Who reads the text tokenises it anew, and broken characters make more tokens: it is cut to as many."""
        end = next((at for at, token in enumerate(ids) if token in stops), len(ids))
        tokenizer, most = self.chat.tokenizer, self.max_new_tokens
        text = str(tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        while True:
            again = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            if len(again) <= most:
                return text
            text = text[: again[most][0]].rstrip()


@contextmanager
def _ready(lm: Any) -> Iterator[None]:
    """The LM in evaluation mode, without its checkpoint's generation settings and without trees; then as it was."""
    backbone, modes = lm.base_model, [(module, module.training) for module in lm.modules()]
    attention, settings = backbone.config._attn_implementation, lm.generation_config
    lm.eval()
    lm.generation_config = transformers.GenerationConfig()
    if attention == TREES:  # it takes no call without trees, and knows no cache
        backbone.set_attn_implementation("sdpa" if backbone._supports_sdpa else "eager")
    try:
        yield
    finally:
        if attention == TREES:
            backbone.set_attn_implementation(attention)
        lm.generation_config = settings
        for module, training in modes:
            module.training = training
