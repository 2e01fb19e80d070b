"""What users bring: a base LM, a reward model to train further, a model that no tree can hold, little memory."""

import copy
import json

import pytest
import tiny
import torch
import transformers
from safetensors.torch import load_file, save_file

from reward_distiller.config import Training
from reward_distiller.errors import ModelError, TrainingError
from reward_distiller.model.batches import encode_pairs, plan_steps
from reward_distiller.model.chat import ChatFormat, load_tokenizer
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import LM_HEAD, build_network, load_network
from reward_distiller.model.network import is_tied
from reward_distiller.model.objectives import Objective, bradley_terry, margin_regression
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import Trainer

FULL = Objective(margin_regression, pair_weight=0.8, nll_weight=0.2)
RESPONSES = ["yes", "a much longer answer, with a comma", ""]


def chat_of(folder):
    return ChatFormat(load_tokenizer(str(folder)), str(folder))


def load(folder, seed=0):
    chat = chat_of(folder)
    return load_network(str(folder), chat, seed), chat


def save_lm(folder, architecture="Llama", tokenizer=None, **options):
    tokenizer = tokenizer or tiny.byte_tokenizer(pad_token="<pad>", eos_token="<|im_end|>")
    lm = tiny.tiny_lm(len(tokenizer), architecture, **options)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return lm


def encode(chat):
    return encode_pairs(tiny.pairs(), chat, 500, tiny.FULL_READING)[0]


def one_step(encoded):
    (groups,) = plan_steps(encoded, 100, 1, 0)
    return groups


def settings(**training):
    return Training(**{"device": "cpu", "threads": 2, "learning_rate": 1e-2} | training)


# -- where a student comes from ------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_a_base_lm_keeps_its_layers_and_its_lm_head(tmp_path, tied):
    lm = save_lm(tmp_path, tie_word_embeddings=tied)
    network, chat = load(tmp_path)
    assert is_tied(network) == tied
    ids = torch.tensor([encode(chat)[0].chosen.ids])
    with torch.no_grad():
        hidden = network.classifier.base_model(input_ids=ids).last_hidden_state
        torch.testing.assert_close(network.lm_head(hidden), lm.eval()(input_ids=ids).logits)


def test_a_new_padding_token_is_the_same_in_every_process(tmp_path):
    """Its row is random, and an LM head sums over it: no other random number may move it."""
    save_lm(tmp_path, tokenizer=tiny.byte_tokenizer())
    rows = []
    for disturbance in (1, 2):
        torch.manual_seed(disturbance)
        network, chat = load(tmp_path)
        assert network.lm_head.out_features == len(chat.tokenizer) == 259
        rows.append((network.classifier.base_model.get_input_embeddings().weight[-1], network.lm_head.weight[-1]))
    assert all(torch.equal(one, other) for one, other in zip(*rows, strict=True))


@pytest.mark.parametrize("tied", [True, False])
def test_a_reward_model_goes_on_where_it_was(tmp_path, tied):
    save_lm(tmp_path / "lm", tie_word_embeddings=tied)
    network, chat = load(tmp_path / "lm")
    list(Trainer(network, FULL, settings()).train(encode(chat), 0))
    save_reward_model(network, chat, tmp_path / "rm", {"reward_mean": 0.0, "reward_std": 1.0})
    rewards = RewardModel.from_pretrained(tmp_path / "rm").score("Hi", RESPONSES)

    again, chat = load(tmp_path / "rm", seed=5)  # the seed is for new heads only
    assert RewardModel(again.classifier, chat).score("Hi", RESPONSES) == pytest.approx(rewards, abs=1e-6)
    assert is_tied(again) == tied
    assert torch.equal(again.lm_head.weight, network.lm_head.weight)
    losses = [Trainer(n, FULL, settings()).evaluate(encode(chat))["loss"] for n in (network.train(), again.train())]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    before = again.lm_head.weight.detach().clone()
    list(Trainer(again, FULL, settings()).train(encode(chat), 0))
    assert not torch.equal(again.lm_head.weight, before)
    save_reward_model(again, chat, tmp_path / "third", {})
    assert (tmp_path / "third" / LM_HEAD).is_file() != tied


def test_without_regularization_an_untied_lm_head_is_kept_as_it_is(tmp_path):
    save_lm(tmp_path / "lm")
    network, chat = load(tmp_path / "lm")
    before = network.lm_head.weight.detach().clone()
    list(Trainer(network, Objective(bradley_terry), settings()).train(encode(chat), 0))
    save_reward_model(network, chat, tmp_path / "rm", {})
    assert torch.equal(load_file(tmp_path / "rm" / LM_HEAD)["lm_head.weight"], before)


def save_classifier(folder, labels=1, architecture="Llama", **options):
    tokenizer = tiny.byte_tokenizer(pad_token="<pad>", eos_token="<|im_end|>")
    config = copy.deepcopy(tiny.tiny_lm(len(tokenizer), architecture, **options).config)
    config.num_labels, config.pad_token_id = labels, tokenizer.pad_token_id
    getattr(transformers, f"{architecture}ForSequenceClassification")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_someone_elses_reward_model_without_an_lm_head(tmp_path):
    save_classifier(tmp_path)
    network, chat = load(tmp_path)
    assert network.lm_head is None
    with pytest.raises(TrainingError, match=r"needs an LM head.*rm_distiller.alpha=0 and rm_distiller.beta=0"):
        Trainer(network, FULL, settings())
    rewards = RewardModel.from_pretrained(tmp_path).score("Hi", RESPONSES)
    assert RewardModel(network.classifier, chat).score("Hi", RESPONSES) == pytest.approx(rewards, abs=1e-6)
    steps = list(Trainer(network, Objective(bradley_terry), settings(epochs=5)).train(encode(chat), 0))
    assert steps[-1]["loss"] < steps[0]["loss"]
    save_reward_model(network, chat, tmp_path / "mine", {})
    assert not (tmp_path / "mine" / LM_HEAD).exists()


def test_an_lm_head_that_does_not_fit_is_refused(tmp_path):
    save_lm(tmp_path / "lm")
    network, chat = load(tmp_path / "lm")
    save_reward_model(network, chat, tmp_path / "rm", {})
    save_file({"lm_head.weight": torch.zeros(300, 32)}, tmp_path / "rm" / LM_HEAD)
    with pytest.raises(ModelError, match="has 300 tokens, the embeddings 259"):
        load(tmp_path / "rm")


def test_what_cannot_be_trained_is_refused(tmp_path):
    save_lm(tmp_path / "lm")
    chat = chat_of(tmp_path / "lm")
    with pytest.raises(ModelError, match=r"no model can be loaded from .*nowhere"):
        load_network(str(tmp_path / "nowhere"), chat, 0)
    save_classifier(tmp_path / "three", labels=3)
    with pytest.raises(ModelError, match="3 labels; a reward model has one"):
        load_network(str(tmp_path / "three"), chat, 0)
    bert = transformers.BertConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_labels=1
    )
    transformers.BertForSequenceClassification(bert).save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="no bias-free head `score` of one label"):
        load_network(str(tmp_path / "bert"), chat, 0)
    transformers.BertModel(bert).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ModelError):
        load_network(str(tmp_path / "encoder"), chat, 0)
    mamba = transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1)
    transformers.MambaForCausalLM(mamba).save_pretrained(tmp_path / "mamba")
    with pytest.raises(ModelError, match="MambaForCausalLM has no sequence classifier in transformers"):
        load_network(str(tmp_path / "mamba"), chat, 0)


def test_a_checkpoint_that_was_copied_in_part_is_refused(tmp_path):
    save_lm(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="no causal LM can be loaded from"):
        load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "reward"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="no reward model can be loaded from"):
        load(tmp_path)


# -- padded rows, where trees cannot be honoured -------------------------------------------------

LINEAR_ATTENTION = {
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
MAMBA_LAYERS = {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "mamba_d_state": 4}


def bloom(vocabulary):
    torch.manual_seed(0)
    config = transformers.BloomConfig(vocab_size=vocabulary, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2)
    return transformers.BloomForCausalLM(config)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda v: tiny.tiny_lm(v, "Qwen3Next", **LINEAR_ATTENTION), "layers of type linear_attention"),
        (lambda v: tiny.tiny_lm(v, "Jamba", **MAMBA_LAYERS, num_experts_per_tok=1), "branches one after the other"),
        (bloom, "does not use the attention interface"),
    ],
    ids=["Qwen3Next", "Jamba", "Bloom"],
)
def test_what_no_tree_can_hold_trains_on_padded_rows_as_exact(capsys, make, reason):
    chat = tiny.chat(pad_token="<|im_end|>", eos_token="<|im_end|>")
    network = build_network(make(len(chat.tokenizer) + 1), chat, 0)
    trainer = Trainer(network, FULL, settings(center=0.03))
    assert trainer.layout == "padded"
    said = capsys.readouterr().err
    assert reason in said
    assert "padded rows are used instead" in said
    encoded = encode(chat)
    parts = trainer.accumulate(one_step(encoded))
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)

    def hidden(sequence):
        return network.classifier.base_model(input_ids=torch.tensor([sequence.ids]), use_cache=False)[0][0]

    def reward(sequence):
        return network.classifier.score(hidden(sequence)[-1])[0].double()

    pair_loss = center = nll = 0.0
    with torch.no_grad():
        for pair in encoded:
            chosen, rejected = reward(pair.chosen), reward(pair.rejected)
            pair_loss += ((chosen - rejected) - (pair.chosen_scores[0] - pair.rejected_scores[0])) ** 2 / len(encoded)
            center += (chosen + rejected) ** 2 / len(encoded)
            log_p = torch.log_softmax(network.lm_head(hidden(pair.supervised[0])).double(), -1)
            terms = [-log_p[at - 1, pair.supervised[0].ids[at]] for at in pair.supervised[0].response]
            nll += sum(terms) / len(terms) / len(encoded)
    assert parts["loss"] == pytest.approx(float(0.8 * pair_loss + 0.03 * center + 0.2 * nll), rel=1e-4)


# -- precision and memory ------------------------------------------------------------------------


def step_of(lm_options=(), **training):
    """A network after one step's backward pass, and the step's loss."""
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer), **dict(lm_options)), chat, 0)
    trainer = Trainer(network, FULL, settings(**training))
    return network, trainer.accumulate(one_step(encode(chat)))["loss"]


@pytest.mark.parametrize("layout", ["trees", "padded"])
def test_bf16_layers_leave_weights_and_gradients_in_fp32(layout):
    exact, loss = step_of(layout=layout)
    rounded, rounded_loss = step_of(layout=layout, precision="bf16")
    assert rounded_loss != loss  # or nothing ran in bf16
    assert rounded_loss == pytest.approx(loss, rel=0.02)
    expected = dict(exact.named_parameters())
    for name, parameter in rounded.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32, name
        difference = (parameter.grad - expected[name].grad).norm() / expected[name].grad.norm()
        assert difference < 0.2, name


def test_bf16_layers_learn_at_a_small_rate():
    """bf16 weights would round these steps away."""
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0)
    before = {n: p.detach().clone() for n, p in network.named_parameters()}
    training = settings(precision="bf16", learning_rate=1e-5, warmup_ratio=0.0)
    list(Trainer(network, FULL, training).train(encode(chat), 0))
    for name, parameter in network.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize("layout", ["trees", "padded"])
@pytest.mark.parametrize("tied", [True, False])
def test_gradient_checkpointing_changes_no_loss_and_no_gradient(layout, tied):
    lm = {"tie_word_embeddings": tied}
    plain, loss = step_of(lm, layout=layout)
    less, same_loss = step_of(lm, layout=layout, gradient_checkpointing=True)
    assert same_loss == pytest.approx(loss, rel=1e-6)
    expected = dict(plain.named_parameters())
    for name, parameter in less.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-6, atol=1e-6)


def test_gradient_checkpointing_computes_layers_again_in_the_backward_pass(monkeypatch):
    """Switched on, but not in effect, it would pass the test above."""
    calls = []
    layer = transformers.models.llama.modeling_llama.LlamaMLP
    real = layer.forward
    monkeypatch.setattr(layer, "forward", lambda self, x: calls.append(1) or real(self, x))
    for checkpointing in (False, True):
        step_of(gradient_checkpointing=checkpointing)
    probe, plain, less = 3 * 2 + 2, 2, 2 * 2  # trees are tried out once a trainer; two layers, then two again
    assert len(calls) == 2 * probe + plain + less
