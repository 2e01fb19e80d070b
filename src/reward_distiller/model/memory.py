"""What a training takes of memory, before it begins: an estimate for one process, from the model's config alone.

Per parameter 4 bytes of weight, and 4 of gradient and 8 of AdamW's moments where it trains. Per slot of the largest
micro-batch (T of them) what autograd keeps of a decoder layer of width D, feed-forward width I and Q, KV numbers of
query and of key or value channels:

    6·D  inputs, normalised and scaled, of two norms     2·Q + 2·KV  queries, keys, values, and what attention gives
    4·I  of the gated feed-forward                       2·Q         keys and values once more where heads share them

times the layers, and as much as two layers more, which the backward pass works on. Checkpointed layers keep their
inputs (D) alone, and one of them at a time is computed again.
In bf16 all of it but the norms' part takes half, and there are copies of the weights in bf16. A LM head that trains
works on chunks of CHUNK_LOGITS logits, in two buffers. Measured against real trainings in tests/model/test_memory.py.

Not counted: the libraries themselves and a GPU's context, a KL teacher, padding in padded rows beyond the budget, a
prompt that is larger than the budget. Knows no machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import nn

from reward_distiller.config import Lora, Training
from reward_distiller.errors import ModelError
from reward_distiller.model.chat import first_line
from reward_distiller.model.regularizer import CHUNK_LOGITS

FP32, BF16 = 4, 2  # bytes
NF4 = 0.52  # bytes of a quantized weight, with its constants
WORKING = 2  # layers' worth that a backward pass holds beside what was kept
SEQUENCES = 3  # of a pair: chosen, rejected, the teacher's response


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    lm_head: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.lm_head


@dataclass(frozen=True)
class Shape:
    """What of a model decides its memory: parameters, and the widths of a layer."""

    backbone: int  # parameters, embeddings among them
    lm_head: int  # parameters of its own; 0 where it is tied to the embeddings
    linear: int  # of the backbone's, those in linear layers
    rows_and_columns: int  # their widths, summed: what an adapter of rank 1 on each would have
    layers: int
    hidden: int
    feed_forward: int
    queries: int
    keys: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any, lora: Lora | None = None) -> Shape:
        """From a config of `transformers`, without weights. Raises ModelError for what is no causal LM."""
        text = config.get_text_config()
        try:
            with torch.device("meta"):
                lm = transformers.AutoModelForCausalLM.from_config(config)
        except (ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(f"no causal LM can be made of its config ({first_line(error)})") from error
        head, backbone = lm.get_output_embeddings(), lm.base_model
        tied = head is None or text.tie_word_embeddings
        linear = {name: m for name, m in backbone.named_modules() if isinstance(m, nn.Linear)}
        chosen = [m for name, m in linear.items() if not (lora and lora.modules) or _named(name, lora.modules)]
        size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            sum(p.numel() for p in backbone.parameters()),
            0 if tied else sum(p.numel() for p in head.parameters()),
            sum(m.weight.numel() for m in linear.values()),
            sum(m.in_features + m.out_features for m in chosen),
            text.num_hidden_layers,
            text.hidden_size,
            getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
            size * text.num_attention_heads,
            size * (getattr(text, "num_key_value_heads", None) or text.num_attention_heads),
            text.vocab_size,
        )


def training_memory(shape: Shape, training: Training, lora: Lora | None = None, *, regularized: bool = True) -> Memory:
    """`regularized`: whether the LM head takes part in the loss, and so has a gradient."""
    parameters = shape.backbone + shape.lm_head + shape.hidden
    weights = FP32 * parameters
    if lora:
        trained = lora.rank * shape.rows_and_columns + shape.hidden
        weights += FP32 * (trained - shape.hidden)
        if lora.quantize:
            weights -= int((FP32 - NF4) * shape.linear)
    else:
        trained = parameters - (0 if regularized else shape.lm_head)
    half = training.precision == "bf16"
    if half:
        weights += BF16 * shape.linear
    chunk = min(CHUNK_LOGITS, slots(training) * shape.vocabulary)
    return Memory(
        weights=weights,
        gradients=FP32 * trained,
        optimizer=2 * FP32 * trained,
        activations=slots(training) * slot_bytes(shape, half, training.gradient_checkpointing),
        lm_head=2 * FP32 * chunk if regularized else 0,
    )


def slots(training: Training) -> int:
    """Of the largest micro-batch: the budget, or less where a whole step has less."""
    return min(training.tokens_per_batch, training.pairs_per_step * SEQUENCES * training.max_length)


def slot_bytes(shape: Shape, half: bool, checkpointed: bool) -> float:
    """Bytes that a slot keeps in all layers."""
    size = BF16 if half else FP32
    norms = 6 * shape.hidden * FP32 + (2 * shape.hidden * BF16 if half else 0)
    shared = 2 * shape.queries if shape.keys < shape.queries else 0
    layer = norms + size * (2 * shape.queries + 2 * shape.keys + shared + 4 * shape.feed_forward)
    if checkpointed:
        return shape.layers * shape.hidden * FP32 + (1 + WORKING) * layer
    return (shape.layers + WORKING) * layer


def _named(name: str, modules: list[str]) -> bool:
    return any(name == module or name.endswith(f".{module}") for module in modules)
