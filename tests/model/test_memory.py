"""The estimate of a training's memory, against real trainings that are small, and against what can be counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import transformers

from reward_distiller.config import Lora, Training
from reward_distiller.errors import ModelError
from reward_distiller.model.chat import ChatFormat
from reward_distiller.model.loading import build_network
from reward_distiller.model.memory import Shape, slots, training_memory

FACTOR, PADDED_FACTOR = 1.5, 2.0  # that docs/training.md states
TESTS = Path(__file__).parents[1]
SMALL = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 768}
WIDE = {"hidden_size": 512, "num_hidden_layers": 3, "num_attention_heads": 8, "intermediate_size": 1536}

SHARED = {**SMALL, "num_key_value_heads": 2}  # heads share keys
EACH = {**SMALL, "num_key_value_heads": 8}
BUDGET = {"tokens_per_batch": 4096}
CASES = {
    "trees": {"architecture": "Llama", "config": EACH, "training": BUDGET},
    "checkpointed": {
        "architecture": "Qwen2",
        "config": SHARED,
        "training": {**BUDGET, "gradient_checkpointing": True},
    },
    "vocabulary": {
        "architecture": "Llama",
        "vocabulary": 20_000,
        "config": {**WIDE, "num_key_value_heads": 8},
        "training": {"tokens_per_batch": 2048},
    },
    "padded": {"architecture": "Qwen2", "config": SHARED, "training": {**BUDGET, "layout": "padded"}},
    "bf16": {"architecture": "Llama", "config": EACH, "training": {**BUDGET, "precision": "bf16"}},
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no peak that can be reset")
@pytest.mark.parametrize("case", CASES)
def test_the_peak_of_a_real_training_is_within_the_stated_factor(case):
    given = CASES[case]
    child = subprocess.run(
        [sys.executable, str(TESTS / "model" / "memory_child.py"), json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={"PYTHONPATH": ":".join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert child.returncode == 0, child.stderr
    measured = json.loads(child.stdout.splitlines()[-1])
    factor = PADDED_FACTOR if case == "padded" else FACTOR
    assert measured["peak"] / factor < measured["estimate"] < measured["peak"] * factor, measured


def test_parameters_are_counted_as_they_will_be():
    tokenizer = tiny.byte_tokenizer()
    for architecture, tied in (("Llama", False), ("Qwen2", True), ("Gemma2", True)):
        lm = tiny.tiny_lm(len(tokenizer) + 1, architecture, tie_word_embeddings=tied, head_dim=8)
        network = build_network(lm, ChatFormat(tiny.byte_tokenizer(), "tiny"), 0)
        shape = Shape.of(lm.config)
        counted = sum(p.numel() for p in network.parameters())
        assert shape.backbone + shape.lm_head + shape.hidden == counted
        settings = Training()
        assert training_memory(shape, settings).weights == 4 * counted
        assert training_memory(shape, settings).optimizer == 8 * counted
        head = shape.lm_head
        assert training_memory(shape, settings, regularized=False).gradients == 4 * (counted - head)


def test_adapters_train_what_peft_makes():
    peft = pytest.importorskip("peft")
    assert peft
    from reward_distiller.model.adapters import add_adapters

    for lora in (Lora(rank=4), Lora(rank=2, modules=["q_proj", "down_proj"])):
        lm = tiny.tiny_lm(300)
        shape = Shape.of(lm.config, lora)
        network = build_network(lm, tiny.chat(), 0)
        add_adapters(network, lora, 0)
        trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert training_memory(shape, Training(), lora).gradients == 4 * trained


def test_a_step_that_is_smaller_than_the_budget_decides():
    assert slots(Training(tokens_per_batch=1000, max_length=64, pairs_per_step=2)) == 2 * 3 * 64
    assert slots(Training(tokens_per_batch=100, max_length=64, pairs_per_step=2)) == 100


def test_less_memory_is_estimated_for_what_is_said_to_save_it():
    shape = Shape.of(transformers.LlamaConfig(hidden_size=256, num_hidden_layers=8, intermediate_size=512))
    whole = training_memory(shape, Training())
    plain = whole.total
    assert training_memory(shape, Training(gradient_checkpointing=True)).total < plain
    assert training_memory(shape, Training(tokens_per_batch=1024)).total < plain
    assert training_memory(shape, Training(precision="bf16")).activations < whole.activations
    assert training_memory(shape, Training(), Lora()).total < plain
    assert training_memory(shape, Training(), Lora(quantize=True)).weights < whole.weights


def test_what_is_no_causal_lm_is_refused():
    with pytest.raises(ModelError, match="no causal LM"):
        Shape.of(transformers.CLIPVisionConfig())
