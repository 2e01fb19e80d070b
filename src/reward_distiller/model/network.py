"""The network that is trained: a causal LM's backbone with a reward head beside its LM head.

Built from any causal LM whose sequence classifier in `transformers` is a backbone and a bias-free linear
head named `score`; what is exported is that classifier. Always fp32 here. Knows no data.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from reward_distiller.config import Scratch
from reward_distiller.errors import ModelError
from reward_distiller.model.batches import Rectangle
from reward_distiller.model.chat import ChatFormat, first_line


class RewardNetwork(nn.Module):
    """`classifier` is the plain Hugging Face model; `lm_head` predicts tokens from the same hidden states."""

    def __init__(self, classifier: Any, lm_head: nn.Module, seed: int):
        super().__init__()
        self.classifier: Any = classifier
        self.lm_head = lm_head
        self.softcap: float | None = getattr(classifier.config, "final_logit_softcapping", None)
        hidden = classifier.score.in_features
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():  # std 1/sqrt(hidden + 1): first rewards of order one (Stiennon et al., 2020)
            classifier.score.weight.normal_(0.0, 1 / math.sqrt(hidden + 1), generator=generator)

    def hidden(self, batch: Rectangle) -> Tensor:
        """Last hidden states (N, L, D)."""
        output = self.classifier.base_model(input_ids=batch.ids_NL, attention_mask=batch.mask_NL, use_cache=False)
        return output.last_hidden_state

    def rewards(self, hidden_NLD: Tensor, batch: Rectangle) -> Tensor:
        """Rewards (N,), read at each sequence's last token."""
        rows = torch.arange(hidden_NLD.shape[0], device=hidden_NLD.device)
        return self.classifier.score(hidden_NLD[rows, batch.end_N]).float().squeeze(-1)

    def logits(self, hidden_TD: Tensor) -> Tensor:
        """Next-token logits (T, V)."""
        return soft_capped(self.lm_head(hidden_TD), self.softcap)


def soft_capped(logits: Tensor, cap: float | None) -> Tensor:
    return logits if cap is None else cap * torch.tanh(logits / cap)


def load_causal_lm(
    path: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """A causal LM. One to train must be fp32: under AdamW at 1e-5, bf16 weights do not move (0.02 - 1e-5 == 0.02)."""
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            path, revision=revision, trust_remote_code=trust_remote_code, dtype=dtype
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no causal LM can be loaded from {path} ({first_line(error)})") from error


def scratch_lm(scratch: Scratch, vocabulary: int, seed: int) -> Any:
    """A small Qwen2 with random weights."""
    torch.manual_seed(seed)
    return transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(
            vocab_size=vocabulary,
            hidden_size=scratch.hidden,
            num_hidden_layers=scratch.layers,
            num_attention_heads=scratch.heads,
            num_key_value_heads=scratch.heads,
            intermediate_size=3 * scratch.hidden,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def build_network(lm: Any, chat: ChatFormat, seed: int) -> RewardNetwork:
    """Put a reward head on a causal LM; embeddings grow where the padding token is new.

    Raises ModelError for architectures without a sequence classifier of the shape described above.
    """
    pad = chat.pad_token_id()
    if max(len(chat.tokenizer), pad + 1) > lm.get_input_embeddings().num_embeddings:
        lm.resize_token_embeddings(len(chat.tokenizer), mean_resizing=False)
    config = copy.deepcopy(lm.config)
    config.num_labels, config.id2label, config.label2id = 1, {0: "reward"}, {"reward": 0}
    config.pad_token_id = pad
    config.get_text_config().pad_token_id = pad
    try:
        with torch.device("meta"):
            classifier = transformers.AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    except (ValueError, KeyError) as error:
        name = type(lm).__name__
        raise ModelError(f"{chat.where}: {name} has no sequence classifier in transformers") from error
    head = getattr(classifier, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None:
        raise ModelError(f"{chat.where}: the sequence classifier of {type(lm).__name__} has no bias-free head `score`")
    setattr(classifier, classifier.base_model_prefix, lm.base_model)
    classifier.score = nn.Linear(head.in_features, 1, bias=False, dtype=torch.float32)
    network = RewardNetwork(classifier, lm.get_output_embeddings(), seed)
    disable_dropout(network)
    return network


def disable_dropout(network: RewardNetwork) -> None:
    """Dropout would make a reward differ from call to call during training, and the export from what was trained."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    config = network.classifier.config
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float):
            setattr(config, name, 0.0)


def device_of(name: str | None) -> torch.device:
    if name is not None:
        try:
            device = torch.device(name)
            torch.empty(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ModelError(f"device {name!r} cannot be used ({first_line(error)}). Name another one") from error
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def is_tied(network: RewardNetwork) -> bool:
    embeddings = network.classifier.base_model.get_input_embeddings()
    return getattr(network.lm_head, "weight", None) is embeddings.weight


def save_lm_head(network: RewardNetwork, folder: Path) -> None:
    """The LM head that was kept for regularization; a tied one is the checkpoint's embedding and needs no file."""
    from safetensors.torch import save_file

    if not is_tied(network):
        state = {f"lm_head.{k}": v.detach().cpu().contiguous() for k, v in network.lm_head.state_dict().items()}
        save_file(state, folder / "lm_head.safetensors", metadata={"format": "pt"})
