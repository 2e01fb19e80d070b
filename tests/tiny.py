"""Tiny models made on the spot, with the chat formats that reward models meet."""

from __future__ import annotations

import random

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from reward_distiller.model.batches import Group, Reading
from reward_distiller.model.chat import ChatFormat
from reward_distiller.records import Pair, Prompt

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + '] ' + m.content | trim }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)
FULL_READING = Reading(("overall",), "teacher_response")


def pair_ids(group: Group) -> list[str]:
    return [pair.id for _, _, pair in group.pairs]


def byte_tokenizer(template: str | None = CHATML, **special: str) -> transformers.PreTrainedTokenizerFast:
    """One token a byte, so that any text can be encoded, and the given special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    wrapped.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    if special:
        wrapped.add_special_tokens(special)
    wrapped.chat_template = template
    return wrapped


def tiny_lm(vocabulary: int, architecture: str = "Llama", seed: int = 0, **options) -> transformers.PreTrainedModel:
    torch.manual_seed(seed)
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=512,
        initializer_range=0.2,  # large, so that differences between positions show
        bos_token_id=None,
        eos_token_id=None,
        **options,
    )
    return getattr(transformers, f"{architecture}ForCausalLM")(config)


def chat(template: str | None = CHATML, **special: str) -> ChatFormat:
    return ChatFormat(byte_tokenizer(template, **special), "tiny")


def pairs(count: int = 5, seed: int = 0) -> list[Pair]:
    """Pairs of uneven lengths; prompts with two pairs that share a rejected response, as refinement makes them."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        prompt = Prompt.from_text(f"question {number} " + "x" * rng.randrange(12))
        texts = ["".join(rng.choice("abcdefgh ") for _ in range(rng.randrange(3, 40))) + str(i) for i in range(4)]
        shared = {"teacher_response": texts[3], "rejected_score": 2.0}
        made.append(Pair.of(prompt, texts[0], texts[1], "sampled", chosen_score=3.0 + number, **shared))
        if number % 2:
            made.append(Pair.of(prompt, texts[2], texts[1], "refined", chosen_score=9.0, **shared))
    return made
