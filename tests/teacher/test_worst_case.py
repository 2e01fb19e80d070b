"""The worst case of a request: never less than what a byte-level tokenizer makes of it, and unknown rather than 0."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from reward_distiller.config import ChatModel, Sampling
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.worst_case import PER_MESSAGE, PER_REQUEST, low_input, worst_case

TURN = {"role": "user", "content": "hi"}


def test_every_byte_of_every_message_may_be_a_token():
    request = build_request(
        ChatModel(model="m", sampling=Sampling(max_tokens=7)),
        [{"role": "system", "content": "é☃"}, {"role": "user", "content": "x" * 100}],
        0,
    )
    assert worst_case(request) == (2 + 3 + 100 + 2 * PER_MESSAGE + PER_REQUEST, 7)
    assert low_input(request) == 105 // 4


BYTES = Tokenizer(BPE(dict(zip(sorted(ByteLevel.alphabet()), range(256), strict=True)), []))
BYTES.pre_tokenizer = ByteLevel(add_prefix_space=False)
BYTES.add_special_tokens(["<|im_start|>", "<|im_end|>"])


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_the_smallest_vocabulary_there_is_makes_no_more_tokens_of_a_chat(texts):
    request = {"messages": [{"role": "user", "content": text} for text in texts], "max_tokens": 1}
    chat = "".join(f"<|im_start|>user\n{text}<|im_end|>\n" for text in texts) + "<|im_start|>assistant\n"
    assert low_input(request) <= len(BYTES.encode(chat).ids) <= worst_case(request).input


def test_what_a_template_may_show_besides_the_messages_counts_too():
    plain = {"model": "m" * 1000, "messages": [TURN], "temperature": 0.0, "logprobs": True, "sample": 3}
    tools = [{"type": "function", "function": {"name": "f" * 500}}]
    more = {**plain, "tools": tools, "chat_template_kwargs": {"system": "s" * 50}, "reasoning_effort": "high"}
    assert worst_case(plain).input == 2 + PER_MESSAGE + PER_REQUEST
    shown = json.dumps(tools, separators=(",", ":")), '{"system":"' + "s" * 50 + '"}', "high"
    assert worst_case(more).input == worst_case(plain).input + sum(map(len, shown))


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "n": 4}, 20),
        ({"max_tokens": 5, "n": None}, 5),
        ({"max_tokens": None, "max_completion_tokens": 6}, 6),
        ({}, None),
        ({"n": 3}, None),
        ({"max_tokens": "5"}, None),
        ({"max_tokens": True}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": 5, "n": "many"}, None),
    ],
)
def test_the_output_is_at_most_what_was_asked_for_or_unknown(limits, most):
    assert worst_case({"messages": [TURN], **limits}).output == most


@pytest.mark.parametrize(
    "messages",
    [None, "text", [7], [{"role": "user", "content": None}], [{"role": "user", "content": [{"type": "image_url"}]}]],
)
def test_messages_of_anything_but_text_have_no_known_bound(messages):
    assert worst_case({"messages": messages, "max_tokens": 5}) == (None, 5)
    assert low_input({"messages": messages}) is None
    assert worst_case({}) == (None, None)


def test_half_a_character_is_counted_not_refused():
    assert worst_case({"messages": [{"role": "user", "content": "\ud800"}]}).input == 3 + PER_MESSAGE + PER_REQUEST
