"""LoRA and QLoRA: what trains, what a checkpoint holds, and that the merged export needs nothing of either."""

import importlib.util
import json
import subprocess
import sys

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file

from reward_distiller.config import Lora, Training
from reward_distiller.errors import ConfigError
from reward_distiller.model.adapters import add_adapters, check_adapters, merge_adapters, quantization
from reward_distiller.model.batches import encode_pairs, plan_steps
from reward_distiller.model.chat import ChatFormat, load_tokenizer
from reward_distiller.model.checkpoints import Checkpoints
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network, load_network
from reward_distiller.model.objectives import Objective, margin_regression
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import Trainer


def needs(*packages):
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} not installed")


BOTH = [
    pytest.param(Lora(rank=4), marks=needs("peft"), id="LoRA"),
    pytest.param(Lora(rank=4, quantize=True), marks=needs("peft", "bitsandbytes"), id="QLoRA"),
]
FULL = Objective(margin_regression, pair_weight=0.8, nll_weight=0.2)
PLAIN_READER = """
import json, sys
for name in ("reward_distiller", "peft", "bitsandbytes"):
    sys.modules[name] = None
import torch
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
with torch.no_grad():
    print(json.dumps([model(input_ids=torch.tensor([ids])).logits.item() for ids in json.loads(sys.argv[2])]))
"""


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    """A Llama whose layers NF4's blocks of 64 fit."""
    folder = tmp_path_factory.mktemp("lm")
    tokenizer = tiny.byte_tokenizer(pad_token="<pad>", eos_token="<|im_end|>")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=None,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def adapted(path, lora):
    chat = ChatFormat(load_tokenizer(path), path)
    network = load_network(path, chat, 0, generates=True, **quantization(lora))
    add_adapters(network, lora, 0)
    return network, chat


def encode(chat):
    return encode_pairs(tiny.pairs(), chat, 500, tiny.FULL_READING)[0]


def settings(**training):
    defaults = {"device": "cpu", "threads": 2, "learning_rate": 1e-2, "pairs_per_step": 4, "epochs": 3}
    return Training(**defaults | training)


def start(path, lora, folder=None, **training):
    """A network, and the steps of its training one by one."""
    network, chat = adapted(path, lora)
    trainer = Trainer(network, FULL, settings(checkpoint_every=1, evaluate_every=2, **training))
    encoded = encode(chat)
    checkpoints = Checkpoints(folder, "key") if folder else None
    return network, trainer.train(encoded[2:], 0, encoded[:2], checkpoints)


def trained(network):
    return {name for name, p in network.named_parameters() if p.requires_grad}


def rewards(classifier, chat, encoded):
    return RewardModel(classifier, chat).score_encoded([s for p in encoded for s in (p.chosen, p.rejected)])


@pytest.mark.parametrize("lora", BOTH)
def test_adapters_and_the_head_train_and_nothing_else_moves(lm, lora):
    network, chat = adapted(lm, lora)
    train = trained(network)
    assert {n for n in train if "lora_" not in n} == {"classifier.score.weight"}
    assert len(train) == 1 + 2 * 7 * 2  # seven linear layers in each of two, two factors each
    parameters = dict(network.named_parameters())
    assert {parameters[n].dtype for n in train} == {torch.float32}
    packed = [n for n, p in parameters.items() if p.dtype == torch.uint8]
    assert len(packed) == (14 if lora.quantize else 0)
    if lora.quantize:
        assert {parameters[n].quant_type for n in packed} == {"nf4"}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    steps = list(Trainer(network, FULL, settings(epochs=20)).train(encode(chat), 0))
    assert steps[-1]["loss"] < 0.5 * steps[0]["loss"]
    after = dict(network.named_parameters())
    assert set(after) == set(before)
    for name, value in after.items():
        assert torch.equal(value, before[name]) == (name not in train), name


@pytest.mark.parametrize("lora", BOTH)
def test_a_checkpoint_holds_what_is_trained_and_resumes_in_the_same_bits(lm, lora, tmp_path):
    calm, steps = start(lm, lora, tmp_path / "calm")  # losses are compared to the last bit, and weights
    rows = list(steps)
    assert len(rows) >= 4
    stopped, steps = start(lm, lora, tmp_path / "stopped")
    next(steps)
    next(steps)
    steps.close()
    (folder,) = (tmp_path / "stopped").glob("step-*")
    for weights in (folder, tmp_path / "stopped" / "best"):
        assert set(load_file(weights / "weights.safetensors")) == trained(stopped)
    resumed, steps = start(lm, lora, tmp_path / "stopped")
    assert list(steps) == rows[2:]
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, calm.state_dict()[name]), name


@pytest.mark.parametrize("modules", [[], ["q_proj", "down_proj"]], ids=["all layers", "two"])
@pytest.mark.parametrize("lora", BOTH)
def test_the_merged_export_gives_the_same_rewards_and_is_plain(lm, lora, modules, tmp_path):
    network, chat = adapted(lm, lora.model_copy(update={"modules": modules}))
    encoded = encode(chat)
    list(Trainer(network, FULL, settings()).train(encoded, 0))
    before = rewards(network.classifier, chat, encoded)
    untrained = rewards(adapted(lm, lora)[0].classifier, chat, encoded)
    assert max(abs(a - b) for a, b in zip(before, untrained, strict=True)) > 0.1
    merge_adapters(network)
    save_reward_model(network, chat, tmp_path / "rm", {})
    loaded = RewardModel.from_pretrained(tmp_path / "rm")
    after = loaded.score_encoded([s for p in encoded for s in (p.chosen, p.rejected)])
    assert after == pytest.approx(before, abs=1e-4 if lora.quantize else 1e-5)
    assert "quantization_config" not in json.loads((tmp_path / "rm/config.json").read_text())
    assert not (tmp_path / "rm/adapter_config.json").exists()
    plain = {type(m) for m in network.modules() if isinstance(m, torch.nn.Linear)}
    assert plain == {torch.nn.Linear}
    stored = load_file(tmp_path / "rm/model.safetensors")
    reference = transformers.AutoModelForSequenceClassification.from_config(loaded.classifiers[0].config).state_dict()
    assert {k: (v.shape, v.dtype) for k, v in stored.items()} == {k: (v.shape, v.dtype) for k, v in reference.items()}


@needs("peft")
def test_the_merged_export_loads_where_there_is_no_peft(lm, tmp_path):
    network, chat = adapted(lm, Lora(rank=4))
    encoded = encode(chat)
    list(Trainer(network, FULL, settings()).train(encoded, 0))
    before = rewards(network.classifier, chat, encoded[:2])
    merge_adapters(network)
    save_reward_model(network, chat, tmp_path / "rm", {})
    ids = [s.ids for p in encoded[:2] for s in (p.chosen, p.rejected)]
    command = [sys.executable, "-c", PLAIN_READER, str(tmp_path / "rm"), json.dumps(ids)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("lora", BOTH)
def test_gradient_checkpointing_changes_no_gradient(lm, lora):
    gradients = []
    for checkpointing in (False, True):
        network, chat = adapted(lm, lora)
        for name, parameter in network.named_parameters():  # factors that start at zero would hide the others' gradient
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(0))
        trainer = Trainer(network, FULL, settings(gradient_checkpointing=checkpointing))
        (groups,) = plan_steps(encode(chat), 100, 1, 0)
        trainer.accumulate(groups)
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.requires_grad})
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-6)


@needs("peft")
@pytest.mark.parametrize("tied", [True, False])
def test_the_regularization_reaches_the_adapters_through_a_frozen_lm_head(tied):
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer), tie_word_embeddings=tied), chat, 0)
    add_adapters(network, Lora(rank=4), 0)
    trainer = Trainer(network, Objective(margin_regression, 0.0, 1.0), settings(center=0.0))
    (groups,) = plan_steps(encode(chat), 100, 1, 0)
    parts = trainer.accumulate(groups)
    assert parts["loss"] == pytest.approx(parts["nll"])
    assert network.lm_head.weight.grad is None
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            assert parameter.grad.abs().max() > 0, name


@needs("peft", "bitsandbytes")
def test_no_forward_pass_packs_the_quantized_weights(lm):
    """On some CPUs bitsandbytes packs them when a model is read first, and gradients would be wrong without a word."""
    network, chat = adapted(lm, Lora(rank=4, quantize=True))
    Trainer(network, FULL, settings()).evaluate(encode(chat))
    states = [m.weight.quant_state for m in network.modules() if hasattr(m, "quant_state")]
    assert len(states) == 14
    assert not any(getattr(s, "packing_format_for_cpu", False) for s in states)


@needs("peft", "bitsandbytes")
def test_qlora_goes_on_from_a_reward_model(lm, tmp_path):
    lora = Lora(rank=4, quantize=True)
    network, chat = adapted(lm, None)
    save_reward_model(network, chat, tmp_path / "rm", {})
    head = network.classifier.score.weight.detach().clone()
    network, chat = adapted(str(tmp_path / "rm"), lora)
    assert type(network.classifier.score) is torch.nn.Linear
    assert torch.equal(network.classifier.score.weight, head)
    assert network.classifier.score.weight.requires_grad
    list(Trainer(network, FULL, settings()).train(encode(chat), 0))
    assert not torch.equal(network.classifier.score.weight, head)


@needs("peft")
def test_the_seed_decides_the_adapters_and_leaves_other_random_numbers_alone(lm):
    def factors(seed):
        network, _ = adapted(lm, None)
        torch.manual_seed(7)
        add_adapters(network, Lora(rank=4), seed)
        after = torch.rand(1)
        return torch.cat([p.detach().flatten() for n, p in network.named_parameters() if "lora_A" in n]), after

    (one, after), (same, _), (other, _) = factors(0), factors(0), factors(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@needs("peft")
def test_an_unknown_layer_is_an_error_that_names_the_known_ones(lm):
    with pytest.raises(ConfigError, match=r"no linear layer 'query'. It has down_proj, .*q_proj, .*v_proj"):
        adapted(lm, Lora(modules=["q_proj", "query"]))
    chat = tiny.chat(pad_token="<pad>")
    config = transformers.GPT2Config(vocab_size=len(chat.tokenizer), n_embd=32, n_layer=1, n_head=4, n_positions=64)
    network = build_network(transformers.GPT2LMHeadModel(config), chat, 0)  # its layers are Conv1D
    with pytest.raises(ConfigError, match="no linear layer that takes an adapter"):
        add_adapters(network, Lora(), 0)


@pytest.mark.parametrize(
    ("missing", "quantize", "extra"), [("peft", False, "lora"), ("peft", True, "lora"), ("bitsandbytes", True, "qlora")]
)
def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch, missing, quantize, extra):
    def find_spec(name, *rest):
        return None if name == missing else sys  # anything but None stands for a package that is there

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    check_adapters(None)
    with pytest.raises(ConfigError, match=rf"student.lora needs {missing}.*'reward-distiller\[{extra}\]'"):
        check_adapters(Lora(quantize=quantize))
    if missing == "bitsandbytes":
        check_adapters(Lora())
