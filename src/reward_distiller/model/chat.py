"""From a conversation to token ids: rendered once by the chat template, tokenised once, end kept explicitly.

The reward is read at the last token of the rendered chat, so that token's index is carried along and
never searched for. Knows no models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

import jinja2
import transformers

from reward_distiller.errors import ModelError
from reward_distiller.records import content_id

Messages = Sequence[dict[str, str]]
PAD = "<|reward_pad|>"  # added where no token of the tokenizer can serve as padding
FROZEN_DATE = "26 Jul 2024"  # the date that Llama's own template falls back to
PROBES = ("a", "Yes, 7!", "x\n")


@dataclass(frozen=True)
class Encoded:
    """Token ids of a whole rendered chat, and where the last response's tokens stand in them."""

    ids: tuple[int, ...]
    response: range = range(0)  # supervised by generative regularization; its last one is the end token
    key: str = field(default="", compare=False)  # of a supervised response: its `response_key`

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Pieces:
    """A chat's tokens, and the pieces of text that its response is made of, in order and without gaps.

    Piece i ends before character `ends[i]` of the response, and token `at[i]` is the last one that is part of it.
    `opening` is the token before the first piece; -1 where there is none.
    """

    chat: Encoded
    opening: int
    at: tuple[int, ...]
    ends: tuple[int, ...]


class ChatFormat:
    """A tokenizer with a chat template, checked for what breaks reward models silently."""

    def __init__(self, tokenizer: Any, where: str):
        self.tokenizer, self.where = tokenizer, where
        if not tokenizer.chat_template:
            raise ModelError(
                f"{where} has no chat template. Name a file with one: student.chat_template=FILE, or "
                "score --chat-template FILE"
            )
        if not tokenizer.is_fast:
            raise ModelError(f"{where} has a slow tokenizer, which keeps no offsets. Convert it to a fast one")
        tokenizer.chat_template = freeze_date(tokenizer.chat_template)
        prompt = [{"role": "user", "content": "Hello"}]
        try:
            rendered = [self._render([*prompt, {"role": "assistant", "content": probe}]) for probe in PROBES]
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise ModelError(f"the chat template of {where} cannot render a conversation: {error}") from error
        if len(set(rendered)) != len(PROBES):
            raise ModelError(f"the chat template of {where} leaves the response out. Use one for conversations")
        # What follows the response: all that two chats have in common behind responses of different last letters.
        other = self._render([*prompt, {"role": "assistant", "content": "b"}])
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(rendered[0][::-1], other[::-1])))
        self.suffix = rendered[0][len(rendered[0]) - shared :]
        self._ends = {self._tokenize(text)[-1] for text in rendered}

    def pad_token_id(self) -> int:
        """A padding token that no rendered chat ends in; added to the tokenizer where it has none.

        A loaded checkpoint pools at the rightmost token that is not padding, so an end that looks like padding
        would move the reward.
        """
        pad = self.tokenizer.pad_token_id
        if pad is None or pad in self._ends or pad == self.tokenizer.eos_token_id:
            self.tokenizer.add_special_tokens({"pad_token": PAD})
        return int(self.tokenizer.pad_token_id)

    def opening(self, messages: Messages) -> tuple[int, ...]:
        """What stands before the first token of the assistant's next turn, as where such turns are trained."""
        probe = self.encode(messages, "a", supervised=True)
        return probe.ids[: probe.response.start]

    def end_token_id(self) -> int | None:
        """The token that ends an assistant's turn; the tokenizer's own where the template writes none."""
        probe = self.encode([{"role": "user", "content": "Hello"}], "a", supervised=True)
        own = self.tokenizer.eos_token_id
        return probe.ids[probe.response[-1]] if self.suffix else None if own is None else int(own)

    def encode(self, messages: Messages, response: str, *, supervised: bool = False) -> Encoded:
        """The whole chat; with `supervised`, also which tokens are the response's, its end token included."""
        turns = [*messages, {"role": "assistant", "content": response}]
        text = self._render(turns)
        if not supervised:
            return Encoded(tuple(self._tokenize(text)))
        opening = self._render(list(messages), generate=True)
        if not text.startswith(opening):
            raise ModelError(f"{self.where}: the chat template renders a prompt differently once it has an answer")
        tokens = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        start, stop = len(opening), len(text) - len(self.suffix)
        first = sum(end <= start for _, end in tokens["offset_mapping"])
        last = sum(begin < stop for begin, _ in tokens["offset_mapping"])
        return Encoded(
            tuple(tokens["input_ids"]), range(first, last + bool(self.suffix)), response_key(messages, response)
        )

    def pieces(self, messages: Messages, response: str) -> Pieces:
        """The whole chat, as `encode` reads it, and which of its tokens end which piece of the response's text.

        Raises ModelError where the template changes the text beyond cutting white space off its ends.
        """
        text = self._render([*messages, {"role": "assistant", "content": response}])
        opening = self._render(list(messages), generate=True)
        start, stop = len(opening), len(text) - len(self.suffix)
        lead = response.find(text[start:stop]) if text.startswith(opening) else -1
        if lead < 0 or response[:lead].strip() or response[lead + stop - start :].strip():
            raise ModelError(f"{self.where}: the chat template changes the text of a response")
        tokens = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = tokens["offset_mapping"]
        at: list[int] = []
        ends: list[int] = []
        for token, (begin, end) in enumerate(offsets):
            if end <= start or begin >= stop:
                continue
            reached = min(end, stop) - start + lead
            if ends and reached <= ends[-1]:  # another part of the same character
                at[-1] = token
            else:
                at.append(token)
                ends.append(reached)
        if ends:
            ends[-1] = len(response)
        opened = sum(end <= start for _, end in offsets)
        return Pieces(Encoded(tuple(tokens["input_ids"])), opened - 1, tuple(at), tuple(ends))

    def _render(self, messages: Messages, generate: bool = False) -> str:
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate))

    def _tokenize(self, text: str) -> list[int]:
        # The template has written the special tokens already: adding them here would make a second BOS.
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def response_key(messages: Messages, response: str) -> str:
    """What a response is known by, whoever tokenises it: the prompt's messages and its text."""
    return content_id([list(messages), response])


def freeze_date(template: str) -> str:
    """A template that would put today's date into every chat gets a fixed one, so that rewards do not age."""
    if "strftime_now" not in template or FROZEN_DATE + "{%- endmacro" in template:
        return template
    return "{%- macro strftime_now(format) -%}" + FROZEN_DATE + "{%- endmacro -%}" + template


def load_tokenizer(path: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Any:
    """A tokenizer from a folder or the Hub; a bare vocab.json with merges.txt is read as Qwen2's."""
    folder = Path(path)
    try:
        if (folder / "vocab.json").is_file() and not (folder / "tokenizer_config.json").is_file():
            tokenizer = transformers.Qwen2Tokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
            tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
            return tokenizer
        return transformers.AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no tokenizer can be loaded from {path} ({first_line(error)})") from error


def load_chat(
    path: str, *, template: str | None = None, revision: str | None = None, trust_remote_code: bool = False
) -> ChatFormat:
    """A tokenizer with its chat template, or with the one in file `template`, checked."""
    tokenizer = load_tokenizer(path, revision=revision, trust_remote_code=trust_remote_code)
    if template:
        tokenizer.chat_template = read_template(template)
    return ChatFormat(tokenizer, path)


def read_template(path: str) -> str:
    """A chat template from a Jinja file, or from the `chat_template` field of a JSON file."""
    try:
        text = Path(path).read_text("utf-8")
        return str(json.loads(text)["chat_template"]) if path.endswith(".json") else text
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"chat template {path} cannot be read ({error!r})") from error


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
