"""Scoring with any single-label sequence classifier in Hugging Face format, ours or not.

The reward is read at the last token of the rendered chat: the end is known, never searched for, so the
checkpoint's padding token cannot move it. Responses to one prompt share its tokens (a forest of prefix trees)
wherever the model's layers allow it. A model that was trained to read a critique behind the response
(`critiques.py`) is given one, or asks its critic for it. Knows no training.
"""

from __future__ import annotations

import copy
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import torch
from torch import nn

from reward_distiller.console import say, track
from reward_distiller.errors import ModelError, NeedsCritique, RewardDistillerError
from reward_distiller.model.chat import ChatFormat, Encoded, load_chat
from reward_distiller.model.critiques import Critic, CritiqueNeed, SelfCritic, self_critic, with_critique
from reward_distiller.model.layout import Layout, cut_forests, cut_rows, lay_out
from reward_distiller.model.loading import device_of, kept_lm_head, load_classifier
from reward_distiller.model.tree_attention import enable_trees, hidden_states

Prompt = str | Sequence[dict[str, str]]
Given = Sequence[Sequence[str] | None] | None  # critiques of each row's responses; None: the critic's
T = TypeVar("T")
SLOTS = 16384  # distinct tokens, or padded ones, in one forward pass


class TooLong(RewardDistillerError):
    """A response that does not fit the model. Scoring a cut one would be scoring another response."""

    exit_code = 3


class RewardModel:
    """A reward model for use. `score` gives raw rewards; `mean` and `std` are of its training rewards, if known.

    `need` says whose critique it reads beside a response; None for most models.
    """

    def __init__(
        self,
        classifier: Any,
        chat: ChatFormat,
        max_length: int | None = None,
        layout: str = "trees",
        devices: Sequence[torch.device] = (),
        critic: Critic | None = None,
    ):
        """Each of `devices` gets a copy of the classifier and shares its work.

        `critic` writes a teacher's critiques where none are given. Raises ModelError for a model that reads none.
        """
        self.chat = chat
        limit = getattr(classifier.config.get_text_config(), "max_position_embeddings", None)
        self.max_length = max_length or limit or 2**31
        extra = getattr(classifier.config, "reward_distiller", None) or {}
        self.mean: float | None = extra.get("reward_mean")
        self.std: float | None = extra.get("reward_std")
        self.need = CritiqueNeed.of(extra.get("needs_at_inference"))
        self.critic = critic
        if critic is not None and (self.need is None or self.need.source != "teacher"):
            raise ModelError(f"{chat.where} reads no teacher's critiques. Leave the critic (score --teacher) out")
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
        critic: Critic | None = None,
    ) -> RewardModel:
        """Load a folder or Hub id. `chat_template` is a file, for checkpoints that carry none.

        All GPUs of the machine share the work unless `device` names one; `layout="padded"` scores without trees.
        `critic` is for a model that reads a teacher's critiques. One that reads its own writes them, on the first
        device, with the LM head beside its checkpoint.

        Raises ModelError where the checkpoint is no single-label classifier, or lacks the LM head to write with.
        """
        path = str(path)
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        classifier = load_classifier(path, dtype=dtype, **options)
        chat = load_chat(path, template=chat_template, **options)
        every = torch.cuda.device_count() if device in (None, "cuda") else 0
        devices = [torch.device("cuda", i) for i in range(every)] or [device_of(device)]
        model = cls(classifier.to(devices[0]), chat, max_length, layout, devices[1:], critic)
        if model.need is not None and model.need.source == "self":
            head = kept_lm_head(classifier, path, revision)
            head = None if head is None else head.to(dtype)
            model.critic = self_critic(classifier, head, chat, model.need, trust_remote_code=trust_remote_code)
        return model

    def score(self, prompt: Prompt, responses: Sequence[str], critiques: Sequence[str] | None = None) -> list[float]:
        """The rewards of responses to one prompt (text, or messages that end with the user's turn)."""
        return self.score_rows([(prompt, responses)], critiques=None if critiques is None else [critiques])[0]

    def score_rows(
        self,
        rows: Sequence[tuple[Prompt, Sequence[str]]],
        advance: Callable[[], None] = lambda: None,
        critiques: Given = None,
    ) -> list[list[float]]:
        """Rewards of every row's responses, in the rows' order. Raises TooLong before any is computed.

        A model that reads critiques gets those given and asks its critic for the rest, as `critiques` says.
        """
        beside = self.critiques(rows, critiques)
        sequences = [
            sequence
            for number, (prompt, responses) in enumerate(rows)
            for sequence in self._encode_row(number, prompt, responses, beside[number] if beside else None)
        ]
        values = iter(self.score_encoded(sequences, advance))
        return [[next(values) for _ in responses] for _, responses in rows]

    def critiques(self, rows: Sequence[tuple[Prompt, Sequence[str]]], given: Given = None) -> list[list[str]] | None:
        """What the model reads beside the rows' responses: what is given, else its critic's; None if it reads nothing.

        Raises ModelError where what is given does not fit, NeedsCritique where something is missing and nobody writes
        it, and TooLong for what could not be scored: all of them before anything is asked or computed.
        """
        if self.need is None:
            if given is not None:
                raise ModelError(f"{self.chat.where} reads no critiques beside the response. Leave them out")
            return None
        given = [None] * len(rows) if given is None else given
        if len(given) != len(rows):
            raise ModelError(f"critiques for {len(given)} rows of {len(rows)}. Give one list a row, or None for it")
        for number, ((_, responses), texts) in enumerate(zip(rows, given, strict=True)):
            if texts is not None:
                _check_count(f"row {number + 1}", texts, responses)
        missing = [number for number, texts in enumerate(given) if texts is None]
        if not any(rows[number][1] for number in missing):
            return [list(texts or ()) for texts in given]
        if self.critic is None:
            first = next(number for number in missing if rows[number][1])
            whose = "a teacher's critique" if self.need.source == "teacher" else "its own critique"
            raise NeedsCritique(
                f"{self.chat.where} was trained to read {whose} behind each response, and row {first + 1} has none. "
                "Give `critiques` with the rows, or a critic that writes them (score --teacher CONFIG)"
            )
        for number, (prompt, responses) in enumerate(rows):
            self._encode_row(number, prompt, responses, given[number])
        asked = [(as_messages(rows[number][0]), rows[number][1]) for number in missing]
        if isinstance(self.critic, SelfCritic):  # a teacher's calls show their own progress
            with track("critiques", sum(len(responses) for _, responses in asked)) as advance:
                written = self.critic(asked, advance)
        else:
            written = self.critic(asked)
        found = dict(zip(missing, written, strict=True))
        for number, texts in found.items():
            _check_count(f"the critic, row {number + 1}", texts, rows[number][1])
        return [list(found.get(number) or texts or ()) for number, texts in enumerate(given)]

    def _encode_row(
        self, number: int, prompt: Prompt, responses: Sequence[str], critiques: Sequence[str] | None
    ) -> list[Encoded]:
        """What is read of a row. Critiques that are still to come count with the room that they may take."""
        encoded, messages = [], as_messages(prompt)
        for at, response in enumerate(responses):
            sequence, room = self._encode(messages, response, None if critiques is None else critiques[at])
            if len(sequence) + room > self.max_length:
                what = "a response" if self.need is None else "a response with its critique"
                raise TooLong(
                    f"row {number + 1}: {what} makes {len(sequence) + room} tokens, over max_length={self.max_length}. "
                    "Remove it, or raise max_length if the model can read that far"
                )
            encoded.append(sequence)
        return encoded

    def _encode(self, messages: list[dict[str, str]], response: str, critique: str | None) -> tuple[Encoded, int]:
        """A sequence as it is read, and the tokens to keep free for a critique that the model will write itself."""
        if self.need is None:
            return self.chat.encode(messages, response), 0
        room = self.need.max_tokens if critique is None and self.need.source == "self" else 0
        return self.chat.encode(with_critique(messages, response, self.need.request), critique or ""), room

    def encode(self, prompt: Prompt, responses: Sequence[str], critiques: Sequence[str] | None = None) -> list[Encoded]:
        """What is read of responses to one prompt, for `score_encoded`. No critic is asked.

        Raises TooLong, ModelError for critiques that do not fit, and NeedsCritique where they are missing.
        """
        if critiques is not None:
            self.critiques([(prompt, responses)], [critiques])
        elif self.need is not None and responses:
            raise NeedsCritique(f"{self.chat.where} reads a critique behind each response. Give `critiques`, one each")
        return self._encode_row(0, prompt, responses, critiques)

    def score_encoded(self, sequences: Sequence[Encoded], advance: Callable[[], None] = lambda: None) -> list[float]:
        """One reward a sequence, in order. `advance` is called once for each."""
        return self._in_batches(self._forward, sequences, advance)

    def values_encoded(
        self, sequences: Sequence[Encoded], advance: Callable[[], None] = lambda: None
    ) -> list[list[float]]:
        """What the head says at every token of each sequence, as many values as it has tokens; the last is its reward.

        Raises ModelError for a model whose head is more than one linear layer: it reads at the end only.
        """
        if not self.reads_anywhere:
            raise ModelError(f"{self.chat.where} has a head of its own, which reads whole sequences only")
        return self._in_batches(self._forward_values, sequences, advance)

    @property
    def reads_anywhere(self) -> bool:
        """Whether the head can be read at any token."""
        return isinstance(getattr(self.classifiers[0], "score", None), nn.Linear)

    def _in_batches(
        self, forward: Callable[[Any, list[tuple[int, ...]]], list[T]], sequences: Sequence[Encoded], advance: Any
    ) -> list[T]:
        """What `forward` makes of a classifier and a batch's ids, for all sequences in order."""
        ids = [s.ids for s in sequences]
        batches = cut_forests(ids, SLOTS) if self.layout == "trees" else cut_rows(ids, SLOTS)
        values: dict[int, T] = {}
        free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for classifier in self.classifiers:
            free.put(classifier)

        def run(batch: list[int]) -> None:
            classifier = free.get()
            try:
                made = forward(classifier, [ids[i] for i in batch])
            finally:
                free.put(classifier)
            values.update(zip(batch, made, strict=True))

        if len(self.classifiers) == 1:  # in this thread: a pool's threads would not have its thread settings
            for batch in batches:
                run(batch)
                for _ in batch:
                    advance()
        else:
            with ThreadPoolExecutor(len(self.classifiers)) as pool:
                futures = {pool.submit(run, batch): batch for batch in batches}
                for future in as_completed(futures):
                    future.result()
                    for _ in futures[future]:
                        advance()
        return [values[at] for at in range(len(ids))]

    def fits(self, prompt: Prompt, responses: Sequence[str], critiques: Sequence[str] | None = None) -> bool:
        """Whether every response is within max_length, with its critique where one is given.

        For a critique that the model is still to write there must be room; a teacher's is taken as empty.
        """
        if critiques is not None:
            self.critiques([(prompt, responses)], [critiques])
        try:
            self._encode_row(0, prompt, responses, critiques)
        except TooLong:
            return False
        return True

    @torch.inference_mode()
    def _forward(self, classifier: Any, sequences: list[tuple[int, ...]]) -> list[float]:
        layout = self._laid_out(classifier, sequences)
        head = getattr(classifier, "score", None)
        if isinstance(head, nn.Linear):
            end_ND = hidden_states(classifier.base_model, layout)[layout.ends().to(classifier.device)]
            reward_N = nn.functional.linear(end_ND.float(), head.weight.float()).squeeze(-1)
        else:  # an encoder, or a head of its own: the model knows where it reads
            reward_N = classifier(input_ids=layout.ids_RL, attention_mask=layout.mask_RL).logits.squeeze(-1)
        return reward_N.float().tolist()

    @torch.inference_mode()
    def _forward_values(self, classifier: Any, sequences: list[tuple[int, ...]]) -> list[list[float]]:
        layout = self._laid_out(classifier, sequences)
        states_ND = hidden_states(classifier.base_model, layout)
        values_N = nn.functional.linear(states_ND.float(), classifier.score.weight.float()).squeeze(-1).cpu()
        return [values_N[layout.slots_of(at)].tolist() for at in range(len(sequences))]

    def _laid_out(self, classifier: Any, sequences: list[tuple[int, ...]]) -> Layout:
        pad_id = self.chat.tokenizer.pad_token_id
        return lay_out(sequences, self.layout, 0 if pad_id is None else pad_id).to(classifier.device)


def _check_count(where: str, critiques: Sequence[str], responses: Sequence[str]) -> None:
    if isinstance(critiques, str) or len(critiques) != len(responses):
        raise ModelError(f"{where}: {len(critiques)} critiques of {len(responses)} responses. Give one for each")


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
