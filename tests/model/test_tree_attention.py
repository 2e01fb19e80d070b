"""Parity: rewards and every parameter's gradient in trees against separate unpadded forwards in fp32."""

import pytest
import tiny
import torch
import transformers

from reward_distiller.model import tree_attention
from reward_distiller.model.layout import forest, lay_out
from reward_distiller.model.loading import build_network
from reward_distiller.model.tree_attention import NAME, TreeMasks, _flex, enable_trees, hidden_states

GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6}
MODELS = {
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Llama": {},
    "Mistral": {"sliding_window": None},
    "Mistral, window": {"sliding_window": 6},
    "Gemma2": GEMMA,  # eager only: its scores are soft-capped
    "Gemma3Text": GEMMA | {"layer_types": ["sliding_attention", "full_attention"]},
}


def network_of(name):
    chat = tiny.chat(pad_token="<pad>")
    if name == "Gemma3Text":
        torch.manual_seed(0)
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        config = transformers.Gemma3TextConfig(
            vocab_size=len(chat.tokenizer), intermediate_size=48, initializer_range=0.2, **shape, **MODELS[name]
        )
        lm = transformers.Gemma3ForCausalLM(config)
    else:
        lm = tiny.tiny_lm(len(chat.tokenizer), name.split(",")[0], **MODELS[name])
    return build_network(lm, chat, 0)


def sequences_of_a_prompt():
    """A sampled pair, a refinement of the rejected one, the teacher's; a sequence with another beginning."""
    token = torch.randint(250, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    prompt, rejected = token[:20], token[20:50]
    made = [prompt + token[50:70], prompt + rejected, prompt + rejected[:17] + token[70:85], prompt + token[90:125]]
    return [tuple(s) for s in [*made, prompt, token[130:150]]]


def probe_loss(rewards, hidden):
    """Something that depends on every reward and on every position's hidden state."""
    weights = torch.linspace(-1, 1, len(rewards))
    return (weights * rewards).sum() + sum(h.square().mean() + h[:-1].sum(-1).sin().mean() for h in hidden)


def gradients(network, loss):
    network.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def separately(network, sequences):
    hidden, rewards = [], []
    for sequence in sequences:
        layout = lay_out([sequence], "padded")
        hidden.append(hidden_states(network.classifier.base_model, layout))
        rewards.append(network.rewards(hidden[-1][-1:])[0, 0])
    return torch.stack(rewards), hidden


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "gradient checkpointing"])
@pytest.mark.parametrize("name", MODELS)
def test_trees_equal_separate_forwards(name, checkpointing):
    network, sequences = network_of(name), sequences_of_a_prompt()
    network.train()
    rewards, hidden = separately(network, sequences)
    expected = gradients(network, probe_loss(rewards, hidden))

    assert enable_trees(network.classifier.base_model) is None
    if checkpointing:
        network.classifier.activation_checkpointing_enable({"use_reentrant": False})
    layout = forest(sequences)
    tree = hidden_states(network.classifier.base_model, layout)
    in_tree = network.rewards(tree[layout.ends()]).squeeze(1)
    found = gradients(network, probe_loss(in_tree, [tree[layout.slots_of(i)] for i in range(len(sequences))]))

    assert (in_tree - rewards).abs().max() < 1e-5
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert (found[parameter] - gradient).norm() <= 1e-4 * gradient.norm(), parameter


@pytest.mark.parametrize("name", ["Qwen2", "Mistral, window", "Gemma2"])
def test_long_segments_in_chunks_are_the_same(name, monkeypatch):
    monkeypatch.setattr(tree_attention, "CHUNK", 7)  # in place of 256: these segments have up to 35 tokens
    test_trees_equal_separate_forwards(name, False)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_flex_attention_gives_what_segments_give(window, softcap):
    """The GPU's path, run here without its compiler; FlexAttention has no backward on a CPU."""
    network = network_of("Qwen2")
    assert enable_trees(network.classifier.base_model) is None
    layout = forest(sequences_of_a_prompt())
    masks = TreeMasks(layout)
    size = layout.ids_RL.shape[1]
    query, key, value = (
        torch.randn(1, heads, size, 16, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2)
    )
    from reward_distiller.model.tree_attention import _by_segment

    expected = _by_segment(query, key, value, masks, 0.3, window, softcap)
    with torch.no_grad():
        found = _flex(query, key, value, masks, 0.3, window, softcap)
    assert (found - expected).abs().max() < 1e-5


def test_a_wrong_position_would_be_seen():
    network, sequences = network_of("Llama"), sequences_of_a_prompt()
    rewards, _ = separately(network, sequences)
    enable_trees(network.classifier.base_model)
    layout = forest(sequences)
    shifted = type(layout)(
        layout.ids_RL, torch.arange(layout.ids_RL.shape[1])[None], None, layout.forest, layout.pieces
    )
    hidden = hidden_states(network.classifier.base_model, shifted)
    assert (network.rewards(hidden[layout.ends()]).squeeze(1) - rewards).abs().max() > 1e-3


def hybrid():
    return transformers.Qwen3NextConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        intermediate_size=48, num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, linear_num_key_heads=2, linear_num_value_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (lambda: transformers.MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=2), "MambaModel has"),
        (hybrid, "Qwen3NextModel has layers of type linear_attention"),
        (
            lambda: transformers.BertConfig(
                vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
            ),
            "looks both ways",
        ),
        (
            lambda: transformers.LlamaConfig(
                vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
            ),
            "rotary embedding of type dynamic",
        ),
    ],
    ids=["recurrent", "hybrid", "encoder", "dynamic rope"],
)  # fmt: skip
def test_models_that_cannot_are_refused_by_name_and_left_as_they_were(config, reason):
    model = transformers.AutoModel.from_config(config())
    before = model.config._attn_implementation
    assert reason in enable_trees(model)
    assert model.config._attn_implementation == before != NAME
    model(input_ids=torch.tensor([[1, 2, 3]]))


def test_a_model_on_trees_refuses_a_call_without_them():
    network = network_of("Llama")
    enable_trees(network.classifier.base_model)
    with pytest.raises(ValueError, match="set up for prefix trees"):
        network.classifier(input_ids=torch.tensor([[1, 2, 3]]))
