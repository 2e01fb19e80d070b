"""Rendering and tokenising: the silent faults of reward-model trainers."""

import pytest
import tiny

from reward_distiller.errors import ModelError
from reward_distiller.model.chat import PAD, ChatFormat, freeze_date
from reward_distiller.records import Pair

PROMPT = [{"role": "user", "content": "Hi"}]


def test_no_second_bos():
    tokenizer = tiny.byte_tokenizer(tiny.WITH_BOS, bos_token="<s>", eos_token="</s>")
    tokenizer.add_bos_token = True
    ids = ChatFormat(tokenizer, "tiny").encode(PROMPT, "Hello").ids
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[-1] == tokenizer.eos_token_id


def test_the_supervised_part_is_the_response_and_its_end_token():
    chat = tiny.chat()
    encoded = chat.encode(PROMPT, "Hello, you", supervised=True)
    text = chat.tokenizer.decode([encoded.ids[i] for i in encoded.response])
    assert text == "Hello, you<|im_end|>"  # and not the newline that the template adds
    assert chat.tokenizer.decode(list(encoded.ids)).endswith("Hello, you<|im_end|>\n")


def test_the_supervised_part_when_the_template_trims():
    chat = tiny.chat(tiny.WITH_BOS, bos_token="<s>", eos_token="</s>")
    encoded = chat.encode(PROMPT, "  Hello \n", supervised=True)
    assert chat.tokenizer.decode([encoded.ids[i] for i in encoded.response]) == "Hello</s>"


def test_responses_that_look_like_the_suffix():
    chat = tiny.chat()
    for response in ("", "a", "aaaa", "<|im_end|>", "\n", "a<|im_end|>\n"):
        encoded = chat.encode(PROMPT, response, supervised=True)
        start, stop = encoded.response.start, encoded.response.stop
        assert chat.tokenizer.decode(list(encoded.ids[start:stop])) == response + "<|im_end|>"


def test_a_pad_token_that_a_chat_can_end_in_is_replaced():
    tokenizer = tiny.byte_tokenizer(tiny.WITH_BOS, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    chat = ChatFormat(tokenizer, "tiny")
    assert chat.pad_token_id() != tokenizer.eos_token_id
    assert tokenizer.pad_token == PAD


def test_a_pad_token_of_its_own_is_kept():
    chat = tiny.chat(pad_token="<pad>", eos_token="<|im_end|>")
    assert chat.pad_token_id() == chat.tokenizer.convert_tokens_to_ids("<pad>")


def test_a_template_with_todays_date_is_frozen():
    dated = "{{ strftime_now('%d %b %Y') }} " + tiny.CHATML
    tokenizer = tiny.byte_tokenizer(dated)
    before = tokenizer.apply_chat_template(PROMPT, tokenize=False)
    chat = ChatFormat(tokenizer, "tiny")
    text = chat.tokenizer.decode(list(chat.encode(PROMPT, "Hello").ids))
    assert text.startswith("26 Jul 2024")
    assert not before.startswith("26 Jul 2024")
    assert freeze_date(freeze_date(dated)) == freeze_date(dated)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, "has no chat template"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "leaves the response out"),
        ("{{ raise_exception('only system turns') }}", "cannot render"),
    ],
)
def test_templates_that_cannot_serve_are_refused(template, said):
    with pytest.raises(ModelError, match=said):
        tiny.chat(template)


def test_too_long_pairs_are_dropped_and_counted_not_cut():
    from reward_distiller.model.batches import encode_pairs

    pairs = tiny.pairs(2)
    long = Pair.of(pairs[0].prompt, "y" * 300, "n", "labeled", chosen_score=2.0, rejected_score=1.0)
    encoded, dropped = encode_pairs([*pairs, long], tiny.chat(), 200, tiny.FULL_READING)
    assert [p.id for p in encoded] == [p.id for p in pairs]
    assert dropped == {"longer than max_length=200": 1}


def test_an_end_token_may_hold_any_letter():
    template = tiny.CHATML.replace("<|im_end|>", "<|assistant_end|>")
    encoded = tiny.chat(template).encode(PROMPT, "banana", supervised=True)
    text = tiny.chat(template).tokenizer.decode([encoded.ids[i] for i in encoded.response])
    assert text.startswith("banana<")
    assert encoded.response.stop <= len(encoded.ids)
