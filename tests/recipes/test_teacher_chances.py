"""Distributions out of what a teacher said with its own responses: exactly the student's tokens, or none."""

import json

import numpy as np
import pytest
import torch
from helpers import fake_engine
from tiny import chat

from reward_distiller.config import parse_config
from reward_distiller.construct.candidates import candidate_questions
from reward_distiller.errors import ConfigError
from reward_distiller.model.teacher_distributions import TopKStore
from reward_distiller.model.teachers import StoredTeacher
from reward_distiller.model.token_ids import TokenIds
from reward_distiller.recipes.distributions import keep_distributions
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.token_chances import Place, given_tokens, written_tokens
from reward_distiller.testbed.models import completion_body

CHAT = chat()
END = CHAT.tokenizer.convert_tokens_to_ids("<|im_end|>")


def entry(token, *top):
    return {"token": token, "logprob": top[0][1], "top_logprobs": [{"token": t, "logprob": p} for t, p in top]}


def answer(text: str, content) -> bytes:
    body = json.loads(completion_body("teacher", text, 1, "x"))
    body["choices"][0]["logprobs"] = {"content": content}
    return json.dumps(body).encode()


def by_id(text: str, end: bool = True):
    """Each byte a token, as ids, with one other alternative."""
    ids = [*CHAT.tokenizer(text, add_special_tokens=False)["input_ids"], *([END] if end else [])]
    return [entry(f"token_id:{i}", (f"token_id:{i}", -0.1), (f"token_id:{(i + 1) % 250}", -3.0)) for i in ids]


class PartsOfFake:
    def chat_model(self, model):
        return model


def configured(tmp_path, **own):
    return parse_config(
        {
            "output": str(tmp_path),
            "scenario": "labeled",
            "pairs": {"path": "none"},
            "teacher": {"model": "teacher", "base_url": "http://fake"},
            "rm_distiller": {"kl_top_logprobs": 2, "kl_token_ids": True, **own},
            "student": {"model": "none"},
        }
    )


def pair(prompt: Prompt, response: str) -> Pair:
    return Pair.of(prompt, "a", "b", "labeled", chosen_score=8, rejected_score=2, teacher_response=response)


def test_what_was_said_with_the_responses_is_kept_where_the_tokens_are_the_students(tmp_path, capsys):
    said = {
        "by id": answer("yes", by_id("yes")),
        "by text": answer("no", [entry(t, (t, -0.2), ("!", -2.0)) for t in ("n", "o", "<|im_end|>")]),
        "other tokens": answer("maybe", [entry("may", ("may", -0.1)), entry("be", ("be", -0.1))]),
        "no end": answer("well", by_id("well", end=False)),
        "no chances": answer("hm", None),
        "thought": answer("<think>x</think>so", by_id("<think>x</think>so")),
    }
    config = configured(tmp_path)
    assert config.rm_distiller.beta == 0.2
    prompts = {text: Prompt.from_text(text) for text in said}
    with fake_engine(tmp_path, lambda request: said[request["messages"][-1]["content"]]) as (engine, transport):
        questions = candidate_questions(list(prompts.values()), config.rm_distiller.reference_fields)
        outcomes = engine.ask(config.teacher, "reference", questions)
    assert transport.asked[0]["return_tokens_as_token_ids"] is True
    assert transport.asked[0]["top_logprobs"] == 2
    pairs = [pair(prompt, outcomes[prompt.id].value) for prompt in prompts.values()]
    pairs.append(pair(Prompt.from_text("never asked"), "of the rows"))
    file = tmp_path / "d.safetensors"
    keep_distributions(file, config, PartsOfFake(), CHAT, pairs)
    assert "2 of 7 teacher responses have distributions" in capsys.readouterr().err
    first = file.read_bytes()
    keep_distributions(file, config, PartsOfFake(), CHAT, pairs)
    assert file.read_bytes() == first
    store = TopKStore.open(file)
    encoded = [CHAT.encode(p.prompt.as_dicts(), p.teacher_response, supervised=True) for p in pairs]
    assert [e.key in store for e in encoded] == [True, True, False, False, False, False, False]
    row = store.get(encoded[0].key, [encoded[0].ids[at] for at in encoded[0].response])
    assert row.id_N.tolist()[::2] == row.target_T.tolist()
    assert np.allclose(row.log_p_N[::2], -0.1)

    teacher = StoredTeacher.open(file, CHAT.tokenizer, gaps=True)
    top = teacher.of([encoded[0], encoded[2]], torch.device("cpu"))
    length = len(encoded[0].response)
    targets = torch.tensor([encoded[2].ids[at] for at in encoded[2].response])
    assert torch.equal(top.ids_TK[length:, 0], targets)  # certain of its own tokens: the KL is the NLL
    assert torch.equal(top.log_p_TK[length:].exp(), torch.tensor([[1.0, 0.0]]).expand(len(targets), 2))


@pytest.mark.parametrize(
    "tops",
    [
        [("y", -0.1), ("!", -0.1)],  # more than 1 in all
        [("y", 0.7)],
        [("y", 1e308)],
        [("y", float("-inf"))],
        [],
        [("y", 10**400)],
    ],
)
def test_what_is_no_distribution_is_counted_as_none(tmp_path, capsys, tops):
    """The responses are paid for by then: a server that lies about one takes nothing from the others."""
    true = [entry(t, (t, -0.3), ("!", -2.0), ("?", -3.0)) for t in ("y", "<|im_end|>")]  # one more than asked for
    false = [{"token": "y", "logprob": -0.1, "top_logprobs": [{"token": t, "logprob": p} for t, p in tops]}, true[1]]
    config = configured(tmp_path, kl_token_ids=False)
    prompts = [Prompt.from_text(text) for text in ("true", "false")]
    bodies = {"true": answer("y", true), "false": answer("y", false)}
    with fake_engine(tmp_path, lambda request: bodies[request["messages"][-1]["content"]]) as (engine, _):
        engine.ask(config.teacher, "reference", candidate_questions(prompts, config.rm_distiller.reference_fields))
    for some, said in ((prompts, "1 of 2"), (prompts[1:], "0 of 1")):
        keep_distributions(tmp_path / "d.safetensors", config, PartsOfFake(), CHAT, [pair(p, "y") for p in some])
        assert f"{said} teacher responses have distributions" in capsys.readouterr().err
        assert len(TopKStore.open(tmp_path / "d.safetensors")) == int(said[0])


def test_a_text_that_several_tokens_could_be_is_no_token():
    ids = TokenIds(CHAT.tokenizer)
    assert ids.id("e") == CHAT.tokenizer("e")["input_ids"][0]
    assert ids.id("\ufffd") is None
    assert ids.id("there is no such token") is None
    assert ids.id(10**6) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}", answer("a", [{"token": 3, "top_logprobs": []}]), answer("a", [entry("a", ("a", "x"))])],
)
def test_a_body_without_chances_has_none(body):
    assert written_tokens(body) is None
    assert given_tokens(body) is None


def test_chances_of_what_was_given_begin_with_the_second_token():
    entries = [None, {"5": {"logprob": -2.0, "rank": 9}, "7": {"logprob": -0.5, "rank": 1}}]
    assert given_tokens(json.dumps({"prompt_logprobs": entries}).encode()) == [Place(5, ((5, -2.0), (7, -0.5)))]


def test_only_a_teacher_that_is_asked_says_how_sure_it_was(tmp_path):
    data = configured(tmp_path).given
    del data["teacher"]
    data["rm_distiller"]["refine"] = False
    with pytest.raises(ConfigError, match=r"rm_distiller.kl_top_logprobs needs a `teacher`"):
        parse_config(data)
    with pytest.raises(ConfigError, match="kl_teacher or kl_top_logprobs, not both"):
        configured(tmp_path, kl_teacher="some/lm")
