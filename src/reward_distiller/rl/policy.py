"""A policy: a causal LM with its chat format. It is sampled from, and says how probable its responses were.

Knows no rewards and no training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from reward_distiller.errors import ModelError
from reward_distiller.files import new_folder, write_json
from reward_distiller.model.chat import ChatFormat, Messages, first_line, load_chat
from reward_distiller.model.layout import cut_rows
from reward_distiller.model.network import disable_dropout

SLOTS = 16384  # padded tokens of a batch, those to be generated included
LOGITS = 2**24  # numbers of a batch's logits held at once: 64 MiB


@dataclass(frozen=True)
class Sampled:
    """One response as token ids. `ids` ends with an end token if it is `finished`, else it was cut at the limit."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    finished: bool
    text: str


class Policy:
    """`limit` is the longest response in tokens, its end token included. Weights are fp32 whatever `precision` is."""

    def __init__(
        self,
        lm: Any,
        chat: ChatFormat,
        limit: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        precision: str = "fp32",
    ):
        self.lm, self.chat, self.limit = lm, chat, limit
        self.temperature, self.top_p, self.precision = temperature, top_p, precision
        own = getattr(lm.generation_config, "eos_token_id", None)
        declared = [] if own is None else [own] if isinstance(own, int) else list(own)
        ends = {*declared, chat.end_token_id()}
        self.ends = sorted(int(end) for end in ends if end is not None)
        pad = chat.tokenizer.pad_token_id
        self.pad = int(pad) if pad is not None else self.ends[0] if self.ends else 0  # masked wherever it stands

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        limit: int,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        precision: str = "fp32",
        revision: str | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        device: torch.device | str = "cpu",
    ) -> Policy:
        """A folder or Hub id, weights in fp32. Raises ModelError for what is no causal LM with a chat template."""
        options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        chat = load_chat(path, template=chat_template, **options)
        try:
            lm = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"no causal LM can be loaded from {path} ({first_line(error)})") from error
        disable_dropout(lm, lm.config)
        return cls(lm.to(device), chat, limit, temperature, top_p, precision)

    def with_lm(self, lm: Any) -> Policy:
        """Another LM of the same vocabulary in this one's place."""
        return Policy(lm, self.chat, self.limit, self.temperature, self.top_p, self.precision)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.lm.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def save(self, folder: str | Path, facts: dict[str, Any]) -> None:
        """The policy as a plain checkpoint, with its chat template, and `facts` beside it as policy.json."""
        with new_folder(folder) as temporary:
            self.lm.save_pretrained(temporary)
            self.chat.tokenizer.save_pretrained(temporary)
            write_json(temporary / "policy.json", facts)

    def opening(self, messages: Messages) -> tuple[int, ...]:
        """The tokens that stand before a response."""
        return self.chat.opening(messages)

    def sample(self, openings: Sequence[tuple[int, ...]], *, greedy: bool = False) -> list[Sampled]:
        """One response behind each opening, in order; the draws are torch's global ones."""
        settings = transformers.GenerationConfig(
            max_new_tokens=self.limit,
            use_cache=True,
            eos_token_id=self.ends,
            pad_token_id=self.pad,
            **({"do_sample": False} if greedy else self._draws()),
        )
        found: list[Sampled | None] = [None] * len(openings)
        room = [(*ids, *[0] * self.limit) for ids in openings]
        with _to_generate(self.lm):
            for batch in cut_rows(room, SLOTS):
                for at, ids in zip(batch, self._continue([openings[i] for i in batch], settings), strict=True):
                    found[at] = self._cut(openings[at], ids)
        return [each for each in found if each is not None]

    def _draws(self) -> dict[str, Any]:
        return {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}

    def _continue(self, openings: list[tuple[int, ...]], settings: Any) -> list[list[int]]:
        width = max(map(len, openings))
        ids_RL = torch.tensor([[self.pad] * (width - len(ids)) + list(ids) for ids in openings])
        mask_RL = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in openings])
        device = self.lm.device
        output_RL = self.lm.generate(ids_RL.to(device), attention_mask=mask_RL.to(device), generation_config=settings)
        return output_RL[:, width:].tolist()

    def _cut(self, opening: tuple[int, ...], ids: list[int]) -> Sampled:
        end = next((at for at, token in enumerate(ids) if token in self.ends), None)
        kept = tuple(ids if end is None else ids[: end + 1])
        text = str(self.chat.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return Sampled(opening, kept, end is not None, text.strip())

    def batches(self, samples: Sequence[Sampled], most: int | None = None) -> Iterator[tuple[list[int], Batch]]:
        """Padded rows of bounded size, `most` rows at a time, with the places of their samples."""
        vocabulary = self.lm.get_output_embeddings().weight.shape[0]
        slots = max(1, min(SLOTS, LOGITS // vocabulary))
        for part in cut_rows([(*s.prompt_ids, *s.ids) for s in samples], slots):
            for start in range(0, len(part), most or len(part)):
                places = part[start : start + (most or len(part))]
                yield places, Batch.of([samples[at] for at in places], self.pad).to(self.lm.device)

    @torch.no_grad()
    def log_probabilities(self, samples: Sequence[Sampled]) -> list[Tensor]:
        """ln P of each response's tokens at the sampling temperature, as CPU tensors (T,), in order."""
        found: list[Tensor] = [torch.empty(0)] * len(samples)
        self.lm.eval()
        for places, batch in self.batches(samples):
            with self.autocast():
                log_p_RT = token_log_probabilities(self.lm, batch, self.temperature)[0].cpu()
            for at, row in zip(places, log_p_RT, strict=True):
                found[at] = row[: len(samples[at].ids)].clone()
        return found

    @torch.no_grad()
    def context(self, openings: Sequence[tuple[int, ...]]) -> list[float]:
        """The last layer's mean state at the openings' ends, (D,)."""
        self.lm.eval()
        total = torch.zeros(self.lm.config.get_text_config().hidden_size)
        for places in cut_rows(list(openings), SLOTS):
            batch = Batch.of([Sampled(openings[at], (), True, "") for at in places], self.pad).to(self.lm.device)
            with self.autocast():
                hidden_RLD = self.lm.base_model(**batch.inputs, use_cache=False).last_hidden_state
            total += hidden_RLD[:, -1].float().sum(0).cpu()
        return (total / len(openings)).tolist()

    @torch.no_grad()
    def kl_to(self, reference: Any, samples: Sequence[Sampled]) -> list[float]:
        """KL(policy || reference) in nats along each response: over the vocabulary at each of its tokens, summed."""
        found = [0.0] * len(samples)
        self.lm.eval()
        for places, batch in self.batches(samples):
            with self.autocast():
                ours_RTV, theirs_RTV = (log_distributions(lm, batch, self.temperature) for lm in (self.lm, reference))
            kl_RT = (ours_RTV.exp() * (ours_RTV - theirs_RTV)).sum(-1).masked_fill(~batch.mask_RT, 0.0)
            for at, value in zip(places, kl_RT.sum(1).tolist(), strict=True):
                found[at] = value
        return found


@dataclass(frozen=True)
class Batch:
    """R rows of prompt and response: prompts end, and responses begin, in the same column. T: the longest response."""

    ids_RL: Tensor
    mask_RL: Tensor
    target_RT: Tensor
    mask_RT: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sampled], pad: int) -> Batch:
        before, behind = max(len(s.prompt_ids) for s in samples), max(len(s.ids) for s in samples)
        rows, masks = [], []
        for s in samples:
            left, right = before - len(s.prompt_ids), behind - len(s.ids)
            rows.append([pad] * left + [*s.prompt_ids, *s.ids] + [pad] * right)
            masks.append([0] * left + [1] * (len(s.prompt_ids) + len(s.ids)) + [0] * right)
        ids_RL, mask_RL = torch.tensor(rows), torch.tensor(masks)
        return cls(ids_RL, mask_RL, ids_RL[:, before:], mask_RL[:, before:].bool())

    def to(self, device: Any) -> Batch:
        return Batch(*(tensor.to(device) for tensor in (self.ids_RL, self.mask_RL, self.target_RT, self.mask_RT)))

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model takes. Positions count tokens, not padding."""
        positions_RL = (self.mask_RL.cumsum(1) - 1).clamp(min=0)
        return {"input_ids": self.ids_RL, "attention_mask": self.mask_RL, "position_ids": positions_RL}


def log_distributions(lm: Any, batch: Batch, temperature: float) -> Tensor:
    """ln P over the vocabulary at each place of the responses, R by T by V."""
    most = batch.target_RT.shape[1]
    logits_RTV = lm(**batch.inputs, logits_to_keep=most + 1, use_cache=False).logits[:, :-1]
    return torch.log_softmax(logits_RTV.float() / temperature, -1)


def token_log_probabilities(lm: Any, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """ln P of the responses' tokens, R by T, and the entropy there in nats; both 0 where no token is."""
    log_p_RTV = log_distributions(lm, batch, temperature)
    entropy_RT = -(log_p_RTV.exp() * log_p_RTV).sum(-1)
    chosen_RT = log_p_RTV.gather(-1, batch.target_RT.unsqueeze(-1)).squeeze(-1)
    return chosen_RT.masked_fill(~batch.mask_RT, 0.0), entropy_RT.masked_fill(~batch.mask_RT, 0.0)


@contextmanager
def _to_generate(lm: Any) -> Iterator[None]:
    """The LM in evaluation mode without its checkpoint's generation settings, then as it was."""
    training, settings = lm.training, lm.generation_config
    lm.eval()
    lm.generation_config = transformers.GenerationConfig()
    try:
        yield
    finally:
        lm.train(training)
        lm.generation_config = settings
