"""Generation with a reward model's parts: exactly the most probable tokens, and nothing is changed by it."""

import copy
import string

import pytest
import tiny
import torch
import transformers
from torch import nn

from reward_distiller.errors import ModelError
from reward_distiller.model.generation import Generator, causal_lm
from reward_distiller.model.layout import forest
from reward_distiller.model.loading import build_network
from reward_distiller.model.tree_attention import NAME, enable_trees, hidden_states

MODELS = {
    "Llama": {},
    "Qwen2": {"tie_word_embeddings": True},
    "Qwen3": {"head_dim": 8},
    "Mistral": {"sliding_window": 16},
    "Gemma2": {"head_dim": 8, "sliding_window": 16, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0},
}
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "a much longer question! " * 4}],
    [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So it is."},
        {"role": "user", "content": "Critique your last reply."},
    ],
    [{"role": "user", "content": ""}],
]


def writes_letters(lm, chat, end_bias):
    """Let the LM write letters only, each a token, and give its end token a bias: some turns end, others run on."""
    old = lm.get_output_embeddings()
    head = nn.Linear(old.in_features, old.out_features)
    with torch.no_grad():
        head.weight.copy_(old.weight)
        head.bias.fill_(-1000.0)
        head.bias[chat.tokenizer.convert_tokens_to_ids(list(string.ascii_letters))] = 0.0
        head.bias[chat.tokenizer.convert_tokens_to_ids("<|im_end|>")] = end_bias
    lm.set_output_embeddings(head)


def parts(architecture="Qwen3", bias=0.0, chat=None, **options):
    """A network set up for trees, and a copy of the LM that it was made of."""
    chat = chat or tiny.chat(pad_token="<pad>", eos_token="<|im_end|>")
    lm = tiny.tiny_lm(len(chat.tokenizer), architecture, **(options or MODELS[architecture]))
    writes_letters(lm, chat, bias)
    alone = copy.deepcopy(lm).eval()
    network = build_network(lm, chat, 0)
    assert enable_trees(network.classifier.base_model) is None
    return network, chat, alone


def step_by_step(lm, chat, messages, most, end="<|im_end|>"):
    """Argmax after argmax: no batch, no padding, no cache."""
    text = chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + most:
            ids.append(lm(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax().item())
            if ids[-1] == chat.tokenizer.convert_tokens_to_ids(end):
                break
    return chat.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("slots", [40, 16384])
@pytest.mark.parametrize("architecture", MODELS)
def test_texts_are_those_of_argmax_step_by_step(architecture, slots):
    network, chat, alone = parts(architecture, bias={"Mistral": 0.0, "Gemma2": 2.0}.get(architecture, 1.0))
    expected = [step_by_step(alone, chat, messages, 24) for messages in CONVERSATIONS]
    assert min(map(len, expected)) < 13 < max(map(len, expected))  # some end, some run on
    generator = Generator(causal_lm(network.classifier, network.lm_head), chat, 24, slots)
    counted = []
    texts = generator.generate(CONVERSATIONS, lambda: counted.append(1))
    assert texts == expected
    assert len(counted) == len(CONVERSATIONS)
    assert generator.generate(CONVERSATIONS[::-1]) == texts[::-1]
    assert generator.generate([]) == []


def test_a_format_without_padding_and_with_a_beginning_of_text():
    chat = tiny.chat(tiny.WITH_BOS, bos_token="<s>", eos_token="</s>")
    lm = tiny.tiny_lm(len(chat.tokenizer), "Llama")
    writes_letters(lm, chat, 0.0)
    expected = [step_by_step(lm.eval(), chat, messages, 8, "</s>") for messages in CONVERSATIONS]
    classifier = transformers.LlamaForSequenceClassification(lm.config)
    classifier.model = lm.model
    assert Generator(causal_lm(classifier, lm.lm_head), chat, 8).generate(CONVERSATIONS) == expected


def test_a_text_makes_no_more_tokens_than_it_was_given():
    """Random bytes are broken characters, each of which is read as three tokens."""
    chat = tiny.chat(pad_token="<pad>", eos_token="<|im_end|>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0)
    texts = Generator(causal_lm(network.classifier, network.lm_head), chat, 12).generate(CONVERSATIONS)
    lengths = [len(chat.tokenizer(text)["input_ids"]) for text in texts]
    assert "\ufffd" in "".join(texts)
    assert 9 < max(lengths) <= 12


def test_it_ends_where_the_chat_format_ends_a_turn_whatever_the_tokenizer_calls_its_end():
    chat = tiny.chat(pad_token="<pad>", eos_token="<|endoftext|>")
    network, _, alone = parts(chat=chat, bias=1.0)
    expected = [step_by_step(alone, chat, messages, 24) for messages in CONVERSATIONS]
    assert min(map(len, expected)) < 24
    assert Generator(causal_lm(network.classifier, network.lm_head), chat, 24).generate(CONVERSATIONS) == expected


def test_a_checkpoints_own_generation_settings_are_not_followed_and_kept():
    network, chat, _ = parts()
    generator = Generator(causal_lm(network.classifier, network.lm_head), chat, 24)
    texts = generator.generate(CONVERSATIONS)
    wild = transformers.GenerationConfig(do_sample=True, temperature=9.0, repetition_penalty=5.0, num_beams=2)
    generator.lm.generation_config = wild
    assert generator.generate(CONVERSATIONS) == texts
    assert generator.lm.generation_config is wild


def test_weights_are_shared_and_nothing_is_drawn():
    network, *_ = parts()
    before = torch.get_rng_state()
    lm = causal_lm(network.classifier, network.lm_head)
    assert torch.equal(torch.get_rng_state(), before)
    mine = {p.data_ptr() for p in network.parameters()}
    assert {p.data_ptr() for p in lm.parameters()} <= mine
    assert lm.get_output_embeddings() is network.lm_head


@pytest.mark.parametrize("fails", [False, True])
def test_trees_and_modes_are_as_before_even_after_an_error(monkeypatch, fails):
    network, chat, _ = parts()
    network.train()
    network.classifier.base_model.layers[1].eval()
    backbone = network.classifier.base_model
    modes = [m.training for m in network.modules()]
    layout = forest([(1, 2, 3, 4), (1, 2, 7)])
    before = hidden_states(backbone, layout)
    generator = Generator(causal_lm(network.classifier, network.lm_head), chat, 4)
    seen, real = [], type(backbone).forward

    def forward(*args, **kwargs):
        seen.append((backbone.training, torch.is_grad_enabled(), backbone.config._attn_implementation))
        if fails:
            raise RuntimeError("out of memory")
        return real(backbone, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(backbone, "forward", forward)
        if fails:
            with pytest.raises(RuntimeError, match="out of memory"):
                generator.generate(CONVERSATIONS)
        else:
            generator.generate(CONVERSATIONS)
    assert set(seen) == {(False, False, "sdpa")}
    assert backbone.config._attn_implementation == NAME
    assert [m.training for m in network.modules()] == modes
    assert torch.is_grad_enabled()
    after = hidden_states(backbone, layout)
    assert torch.equal(after, before)
    after.sum().backward()  # nothing that was made without gradients is in the way


def test_without_trees_the_attention_stays_what_it_is():
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0)
    network.classifier.base_model.set_attn_implementation("eager")
    Generator(causal_lm(network.classifier, network.lm_head), chat, 2).generate(CONVERSATIONS)
    assert network.classifier.base_model.config._attn_implementation == "eager"


def test_what_has_no_causal_lm_is_refused():
    config = transformers.DebertaV2Config(
        vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=1
    )
    classifier = transformers.DebertaV2ForSequenceClassification(config)
    with pytest.raises(ModelError, match="DebertaV2ForSequenceClassification has no causal LM to write with"):
        causal_lm(classifier, nn.Linear(16, 64))
