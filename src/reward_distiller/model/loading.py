"""Networks to train from what users have: a base LM, an existing reward model, or nothing at all.

Takes any causal LM whose sequence classifier in `transformers` is a backbone and a bias-free linear head named
`score`. Weights to train are fp32, whatever the checkpoint's are. Knows no training.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.utils import cached_file

from reward_distiller.config import Scratch
from reward_distiller.errors import ModelError
from reward_distiller.model.chat import ChatFormat, first_line
from reward_distiller.model.network import RewardNetwork, disable_dropout
from reward_distiller.model.teacher_distributions import lm_head_of

LM_HEAD = "lm_head.safetensors"  # beside an exported checkpoint
MAY_BE_MISSING = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
UNREADABLE = (OSError, ValueError, KeyError, SafetensorError)  # what a checkpoint that is none raises


def load_causal_lm(path: str, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A causal LM. One to train must be fp32: under AdamW at 1e-5, bf16 weights do not move (0.02 - 1e-5 == 0.02).

    `options` are those of from_pretrained: revision, trust_remote_code, quantization_config.
    """
    try:
        return _unpacked(transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **options))
    except UNREADABLE as error:
        raise ModelError(f"no causal LM can be loaded from {path} ({first_line(error)})") from error


def load_teacher_lm(path: str, device: torch.device) -> Any:
    """A causal LM that is only asked. It is never trained, so half precision does where there is hardware for it."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return load_causal_lm(path, dtype=dtype).to(device).eval()


def load_classifier(path: str, *, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A single-label sequence classifier. Raises ModelError for any other checkpoint: its head would be random."""
    plain = {k: v for k, v in options.items() if k in ("revision", "trust_remote_code")}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **plain)
        architectures = config.architectures or []
        if not is_classifier(config) and not plain.get("trust_remote_code"):
            raise ModelError(
                f"{path} holds {', '.join(architectures) or 'no named model'}, not a reward model: its head would "
                "be random. Distil one first: reward-distiller run CONFIG"
            )
        if config.num_labels != 1:
            raise ModelError(f"{path} has {config.num_labels} labels; a reward model has one")
        return _unpacked(transformers.AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype, **options))
    except UNREADABLE as error:
        raise ModelError(f"no reward model can be loaded from {path} ({first_line(error)})") from error


def _unpacked(model: Any) -> Any:
    """Keep bitsandbytes from packing 4-bit weights in the first forward pass on a CPU: gradients would be wrong."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def is_classifier(config: Any) -> bool:
    return any(name.endswith("SequenceClassification") for name in config.architectures or [])


def check_student(path: str, *, attributes: int = 1, generates: bool = False, **plain: Any) -> Any:
    """The config of a model to train. Raises ModelError where its kind cannot do what a method asks of it."""
    try:
        config = transformers.AutoConfig.from_pretrained(path, **plain)
    except UNREADABLE as error:
        raise ModelError(f"no model can be loaded from {path} ({first_line(error)})") from error
    if is_classifier(config):
        if attributes > 1:
            raise ModelError(f"{path} is a reward model with one output; {attributes} attributes need a base LM")
        tied = config.get_text_config().tie_word_embeddings
        if generates and not tied and _lm_head_file(path, plain.get("revision")) is None:
            raise ModelError(
                f"{path} has no LM head, which the method trains. Start from a base LM or from a model that this "
                "package exported, or choose a method without one; rm_distiller is, with alpha=0 and beta=0"
            )
    return config


def load_network(
    path: str, chat: ChatFormat, seed: int, *, attributes: int = 1, generates: bool = False, **options: Any
) -> RewardNetwork:
    """The network of a base LM, with a fresh reward head, or of an existing reward model, with its own.

    `attributes` is the number of the head's outputs while it trains. `generates` says that its LM head will be trained:
    one that does not make the LM's own logits is refused.
    """
    plain = {k: v for k, v in options.items() if k in ("revision", "trust_remote_code")}
    if is_classifier(check_student(path, attributes=attributes, generates=generates, **plain)):
        return continue_network(load_classifier(path, **options), chat, plain.get("revision"))
    lm = load_causal_lm(path, **options)
    if generates:
        lm_head_of(lm)
    return build_network(lm, chat, seed, attributes)


def scratch_config(scratch: Scratch, vocabulary: int) -> transformers.Qwen2Config:
    return transformers.Qwen2Config(
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


def scratch_lm(scratch: Scratch, vocabulary: int, seed: int) -> Any:
    """A small Qwen2 with random weights."""
    torch.manual_seed(seed)
    return transformers.Qwen2ForCausalLM(scratch_config(scratch, vocabulary))


def build_network(lm: Any, chat: ChatFormat, seed: int, attributes: int = 1) -> RewardNetwork:
    """Put a fresh reward head on a causal LM; embeddings grow where the padding token is new.

    Raises ModelError for architectures without a sequence classifier of the shape described above.
    """
    pad = _make_room(lm, chat)
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
    head = _checked_head(classifier, chat.where)
    setattr(classifier, classifier.base_model_prefix, lm.base_model)
    classifier.score = nn.Linear(head.in_features, attributes, bias=False, dtype=torch.float32, device=lm.device)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # std 1/sqrt(hidden + 1): first rewards of order one (Stiennon et al., 2020)
        weight = torch.empty(attributes, head.in_features)
        weight.normal_(0.0, 1 / math.sqrt(head.in_features + 1), generator=generator)
        classifier.score.weight.copy_(weight)
    network = RewardNetwork(classifier, lm.get_output_embeddings())
    disable_dropout(network, network.classifier.config)
    return network


def continue_network(classifier: Any, chat: ChatFormat, revision: str | None = None) -> RewardNetwork:
    """Train an existing reward model further: its head is kept, and its LM head where the checkpoint has one."""
    pad = _make_room(classifier, chat)
    classifier.config.pad_token_id = classifier.config.get_text_config().pad_token_id = pad
    _checked_head(classifier, chat.where)
    classifier.score.float()
    network = RewardNetwork(classifier, kept_lm_head(classifier, chat.where, revision))
    disable_dropout(network, network.classifier.config)
    return network


def _make_room(model: Any, chat: ChatFormat) -> int:
    """The padding token's id, for which the embeddings have grown where it is new."""
    pad = chat.pad_token_id()
    if max(len(chat.tokenizer), pad + 1) > model.get_input_embeddings().num_embeddings:
        # Its row is random, and an LM head sums over it: drawn the same in every process and every run.
        with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
            torch.manual_seed(0)
            model.resize_token_embeddings(len(chat.tokenizer), mean_resizing=False)
    return pad


def _checked_head(classifier: Any, where: str) -> Any:
    head = getattr(classifier, "score", None)
    if not isinstance(head, nn.Linear) or head.bias is not None or head.out_features != 1:
        raise ModelError(f"{where}: {type(classifier).__name__} has no bias-free head `score` of one label")
    return head


def kept_lm_head(classifier: Any, where: str, revision: str | None = None) -> nn.Module | None:
    """The LM head beside a reward model in folder or Hub repository `where`, in fp32; None where there is none.

    It is the input embedding itself where the two are tied, or lm_head.safetensors as our export writes it.
    """
    embedding = classifier.base_model.get_input_embeddings()
    file = _lm_head_file(where, revision)
    if file is None and not classifier.config.get_text_config().tie_word_embeddings:
        return None
    vocabulary, hidden = embedding.weight.shape
    state = {k.removeprefix("lm_head."): v for k, v in load_file(file).items()} if file else {}
    head = nn.Linear(hidden, vocabulary, bias="bias" in state, dtype=torch.float32, device=embedding.weight.device)
    if not state:
        head.weight = embedding.weight
        return head
    if state["weight"].shape[0] > vocabulary:
        raise ModelError(f"{file} has {state['weight'].shape[0]} tokens, the embeddings {vocabulary}")
    with torch.no_grad():  # a padding token added since has no weight yet
        head.weight.zero_()[: state["weight"].shape[0]] = state["weight"]
        if "bias" in state:
            head.bias.zero_()[: state["bias"].shape[0]] = state["bias"]
    return head


def _lm_head_file(where: str, revision: str | None) -> Path | None:
    if Path(where).is_dir():
        file = Path(where) / LM_HEAD
        return file if file.is_file() else None
    found = cached_file(where, LM_HEAD, revision=revision, **MAY_BE_MISSING)
    return Path(found) if found else None


def device_of(name: str | None) -> torch.device:
    if name is not None:
        try:
            device = torch.device(name)
            torch.empty(1, device=device).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ModelError(f"device {name!r} cannot be used ({first_line(error)}). Name another one") from error
        return device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
