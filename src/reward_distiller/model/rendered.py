"""Chats that somebody else has rendered already, as text or token ids: what remains to be made sure of is their end.

A policy's samples end in its end token, or in padding, or were cut off; the reward was learned at the last token of the
template's own ending. And a chat in another model's template would get a reward that means nothing, silently.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.errors import ModelError
from reward_distiller.model.chat import ChatFormat, Encoded

PROBE = "Hello"


class Rendered:
    """Reads rendered chats for one model's template."""

    def __init__(self, chat: ChatFormat, vocabulary: int):
        self.chat, self.vocabulary = chat, vocabulary
        tokenizer = chat.tokenizer
        opening = tokenizer.apply_chat_template(
            [{"role": "user", "content": PROBE}], tokenize=False, add_generation_prompt=True
        )
        self.turn = opening.partition(PROBE)[2].strip()  # what stands between a prompt and a response
        spans = tokenizer(chat.suffix, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        # The ending up to each of its tokens, the whole of it first.
        self._beginnings = [chat.suffix[:stop] for _, stop in reversed(spans) if stop]
        self._padding = {token for token in (tokenizer.pad_token,) if token}

    def closed(self, text: str) -> str:
        """The chat with the template's ending, whatever part of it is there, and no padding around it.

        Raises ModelError for a text that holds no assistant's turn of this template.
        """
        if self.turn and self.turn not in text:
            raise ModelError(
                "a text is no chat in this model's own template. Send messages to /classify or prompt and responses "
                "to /v1/rewards, which render it"
            )
        for pad in self._padding:
            while text.endswith(pad) and not self.chat.suffix.endswith(pad):
                text = text.removesuffix(pad)
            while text.startswith(pad):
                text = text.removeprefix(pad)
        for beginning in self._beginnings:
            if text.endswith(beginning):
                return text.removesuffix(beginning) + self.chat.suffix
        return text + self.chat.suffix

    def encode(self, text: str, special: bool = False) -> Encoded:
        """The text as it is; `special` lets the tokenizer add what it adds to a plain text."""
        return Encoded(tuple(self.chat.tokenizer(text, add_special_tokens=special)["input_ids"]))

    def checked(self, ids: Sequence[int]) -> Encoded:
        """Token ids as they are. Raises ModelError for one that the model does not have."""
        if any(not 0 <= i < self.vocabulary for i in ids):
            raise ModelError(f"a token id is none of the model's {self.vocabulary}")
        return Encoded(tuple(ids))
