"""What is saved is a plain Hugging Face checkpoint: read by a process that knows nothing of this package."""

import json
import subprocess
import sys

import pytest
import tiny
import torch
import transformers

from reward_distiller import RewardModel
from reward_distiller.errors import ModelError
from reward_distiller.model.chat import ChatFormat
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import TooLong
from reward_distiller.testbed.language import World
from reward_distiller.testbed.student import build_tokenizer

RESPONSES = ["yes", "a much longer answer, with a comma", "", "ends in <|im_end|>", "\u00e9\u4e2d \u0661"]
READER = """
import json, sys
sys.modules["reward_distiller"] = None
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
rendered = [tokenizer.apply_chat_template(
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": t}], tokenize=False) for t in texts]
out = {}
for side in ("left", "right"):
    tokenizer.padding_side = side
    batch = tokenizer(rendered, add_special_tokens=False, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        out[side] = model(**batch).logits[:, 0].tolist()
print(json.dumps(out))
"""


def saved(folder, chat, architecture="Llama", **options):
    network = build_network(tiny.tiny_lm(len(chat.tokenizer), architecture, **options), chat, 0)
    save_reward_model(network, chat, folder, {"reward_mean": 0.5, "reward_std": 2.0})
    return network


def by_hand(network, chat, response):
    """The reward as training reads it: one unpadded sequence, last token."""
    ids = chat.encode([{"role": "user", "content": "Hi"}], response).ids
    with torch.no_grad():
        hidden = network.classifier.base_model(input_ids=torch.tensor([ids])).last_hidden_state
        return network.classifier.score(hidden[0, -1]).item()


@pytest.mark.parametrize(
    ("architecture", "template", "special"),
    [
        ("Llama", tiny.CHATML, {"pad_token": "<pad>"}),
        ("Qwen3", tiny.WITH_BOS, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}),  # pad is the end
        ("Mistral", tiny.WITH_BOS, {"bos_token": "<s>", "eos_token": "</s>"}),  # no pad at all
        ("Gemma2", tiny.CHATML, {"pad_token": "<|im_end|>", "eos_token": "<|im_end|>"}),
    ],
)
def test_rewards_in_another_process_with_either_padding(tmp_path, architecture, template, special):
    chat = tiny.chat(template, **special)
    options = {"head_dim": 8} if architecture in ("Gemma2", "Qwen3") else {}
    network = saved(tmp_path / "rm", chat, architecture, **options)
    expected = [by_hand(network, chat, r) for r in RESPONSES]
    arguments = [sys.executable, "-c", READER, str(tmp_path / "rm"), json.dumps(RESPONSES)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=300)
    rewards = json.loads(done.stdout.splitlines()[-1])
    assert rewards["right"] == pytest.approx(expected, abs=1e-5)
    assert rewards["left"] == pytest.approx(expected, abs=1e-5)
    ours = RewardModel.from_pretrained(tmp_path / "rm")
    assert ours.score("Hi", RESPONSES) == pytest.approx(expected, abs=1e-5)
    assert (ours.mean, ours.std) == (0.5, 2.0)


def test_an_untied_lm_head_is_saved_beside_the_checkpoint(tmp_path):
    from safetensors.torch import load_file

    chat = tiny.chat(pad_token="<pad>")
    network = saved(tmp_path / "untied", chat, tie_word_embeddings=False)
    head = load_file(tmp_path / "untied" / "lm_head.safetensors")["lm_head.weight"]
    assert torch.equal(head, network.lm_head.weight)
    saved(tmp_path / "tied", chat, tie_word_embeddings=True)
    assert not (tmp_path / "tied" / "lm_head.safetensors").exists()


def test_someone_elses_checkpoint_is_scored_at_its_last_token(tmp_path):
    """pad == eos in a foreign checkpoint: transformers would search for the end and miss it."""
    tokenizer = tiny.byte_tokenizer(tiny.WITH_BOS, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_labels=1
    )
    config.pad_token_id = tokenizer.eos_token_id
    torch.manual_seed(0)
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = RewardModel.from_pretrained(tmp_path)
    together = model.score("Hi", ["short", "a longer response"])
    alone = [model.score("Hi", [r])[0] for r in ("short", "a longer response")]
    assert together == pytest.approx(alone, abs=1e-6)
    ids = ChatFormat(tokenizer, "x").encode([{"role": "user", "content": "Hi"}], "short").ids
    with torch.no_grad():
        plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
        hidden = plain.base_model(input_ids=torch.tensor([ids])).last_hidden_state
        assert plain.score(hidden[0, -1]).item() == pytest.approx(alone[0], abs=1e-6)


def test_what_is_no_reward_model_is_refused(tmp_path):
    chat = tiny.chat(pad_token="<pad>")
    tiny.tiny_lm(len(chat.tokenizer)).save_pretrained(tmp_path / "lm")
    chat.tokenizer.save_pretrained(tmp_path / "lm")
    with pytest.raises(ModelError, match="not a reward model"):
        RewardModel.from_pretrained(tmp_path / "lm")
    config = transformers.LlamaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1, num_labels=3)
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path / "three")
    with pytest.raises(ModelError, match="3 labels"):
        RewardModel.from_pretrained(tmp_path / "three")
    with pytest.raises(ModelError, match="no reward model can be loaded"):
        RewardModel.from_pretrained(tmp_path / "nowhere")


def test_a_response_that_does_not_fit_is_an_error_not_a_cut(tmp_path):
    chat = tiny.chat(pad_token="<pad>")
    saved(tmp_path / "rm", chat)
    model = RewardModel.from_pretrained(tmp_path / "rm", max_length=40)
    with pytest.raises(TooLong, match=r"row 1: .*max_length=40"):
        model.score("Hi", ["fits", "x" * 100])


def test_a_model_without_a_classifier_is_refused():
    chat = tiny.chat(pad_token="<pad>")
    config = transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=1)
    with pytest.raises(ModelError, match="no sequence classifier"):
        build_network(transformers.MambaForCausalLM(config), chat, 0)


def test_a_tokenizer_that_changes_when_it_is_loaded_again_is_refused(tmp_path):
    """For some model types transformers loads a tokenizer class of its own, whatever was saved."""
    chat = ChatFormat(build_tokenizer(World(0)), "words")
    with pytest.raises(ModelError, match="gives other tokens"):
        saved(tmp_path / "rm", chat, "Qwen2")
    assert not (tmp_path / "rm").exists()
