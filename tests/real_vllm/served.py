"""A tiny model that vLLM serves on this machine's CPU, and how."""

from __future__ import annotations

import os
import random
from pathlib import Path

import torch
import transformers
from tiny import byte_tokenizer

from reward_distiller.config import ChatModel

VLLM = os.environ.get("VLLM")
REASON = "the environment variable VLLM names no `vllm` program; `make test-vllm` installs one"
# Log-probabilities after the schema's mask, so that all is on tokens that an answer can have; no endless white space.
ARGUMENTS = [
    *("--enforce-eager", "--max-model-len", "1024", "--dtype", "float32"),
    *("--logprobs-mode", "processed_logprobs"),
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
]
STEPS = 400
CHATML_CHAT = "<|im_start|>user\nsay {}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n"


def environment() -> dict[str, str]:
    return {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def make_model(folder: Path) -> Path:
    """A model whose tokens are bytes, so that it reads any text. It has learned to answer in a few letters."""
    tokenizer = byte_tokenizer(eos_token="<|im_end|>", pad_token="<|pad|>")
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,  # the least that vLLM's attention on CPUs takes is 32
        intermediate_size=128,
        max_position_embeddings=1024,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    lm = transformers.Qwen3ForCausalLM(config)
    optimizer, rng = torch.optim.AdamW(lm.parameters(), lr=3e-3), random.Random(0)
    for _ in range(STEPS):
        letters = "".join(rng.choices("abcdefgh", k=rng.randrange(3, 8)))
        text = CHATML_CHAT.format(rng.randrange(100), letters)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        lm(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def launched(model: Path, **fields) -> ChatModel:
    assert VLLM is not None
    return ChatModel(
        model=str(model),
        launch="vllm",
        launch_command=[VLLM, "serve"],
        launch_args=ARGUMENTS,
        launch_timeout=300.0,
        **fields,
    )
