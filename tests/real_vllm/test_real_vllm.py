"""The teacher engine against a real vLLM: what it sends is taken, and what comes back is read.

Opt-in (`make test-vllm`): a server takes most of a minute to start. One serves all tests but that of the kill.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import served
import torch
import transformers

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import Annotation, ChatModel, World, parse_config
from reward_distiller.construct.load import load_pairs
from reward_distiller.construct.reference import ask_references
from reward_distiller.construct.scoring import pair_questions
from reward_distiller.errors import EndpointError
from reward_distiller.files import write_rows
from reward_distiller.model.chat import load_chat
from reward_distiller.model.teacher_distributions import TopKStore
from reward_distiller.recipes.distributions import ask_distributions, keep_distributions
from reward_distiller.recipes.reward_model import train_on_pairs, training_config
from reward_distiller.records import Prompt
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.launch import LocalServers
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import ask_for
from reward_distiller.testbed.parts import TestbedParts as WorldParts  # pytest would collect a class called Test...

pytestmark = pytest.mark.skipif(not served.VLLM, reason=served.REASON)
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return served.make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """Where a server that `launch: vllm` started is; it must be gone at the end."""
    os.environ.update(served.environment())
    servers = LocalServers(tmp_path_factory.mktemp("logs"))
    try:
        yield servers.base_url(served.launched(model))
    finally:
        processes = [one.process for one in servers._running.values()]
        servers.close()
        assert processes
        assert all(process.poll() is not None for process in processes)


def teacher(model, server, **fields) -> ChatModel:
    return ChatModel(model=str(model), base_url=server, **fields)


def ask(folder, asked: ChatModel, *questions: Question):
    """Outcomes by id, and the raw body of each question's first answer."""
    with open_engine(folder / "ledger.sqlite", {}) as engine:
        outcomes = engine.ask(asked, "s", questions)
        stored = [engine.ledger.get(ask_for(asked, question, 0).key) for question in questions]
    return outcomes, [one and one.body for one in stored]


def test_a_chat_is_answered_and_says_what_it_took(tmp_path, model, server):
    asked = teacher(model, server, sampling={"max_tokens": 5, "temperature": 1.0})
    outcomes, [body] = ask(tmp_path, asked, Question("q", HELLO, str, reads_cut=True))
    assert isinstance(outcomes["q"], Answer)
    usage = json.loads(body)["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (24, 5)


def test_what_is_cut_off_is_set_aside(tmp_path, model, server):
    outcomes, _ = ask(tmp_path, teacher(model, server, sampling={"max_tokens": 5}), Question("q", HELLO, str))
    assert isinstance(outcomes["q"], Quarantined)
    assert "truncated at 5 tokens" in outcomes["q"].reason


def graded(tmp_path, model, server, **annotation):
    asked = teacher(model, server, structured=True, sampling={"max_tokens": 200, "temperature": 1.0})
    shown = [("p", Prompt.from_text("say hello"), "hello", "goodbye")]
    [question] = pair_questions(shown, asked, Templates(), Annotation(**annotation))
    outcomes, [body] = ask(tmp_path, asked, question)
    return outcomes["p"], body


def test_a_schema_is_kept(tmp_path, model, server):
    outcome, body = graded(tmp_path, model, server)
    number = r"-?[0-9.eE+-]+"  # a schema's number may be no grade, and have no end
    assert re.fullmatch(rf'{{"score_1": ?{number}(, ?"score_2": ?{number}}}?)?', read_completion(body).text)
    assert isinstance(outcome, Answer | Quarantined)


def test_expected_scores_come_from_the_probabilities_of_the_grades(tmp_path, model, server):
    """A pattern in place of the schema keeps the model to what a teacher would answer: two grades, none of them 1."""
    asked = teacher(model, server, sampling={"max_tokens": 50, "temperature": 0.0})
    shown = [("p", Prompt.from_text("say hello"), "hello", "goodbye")]
    [question] = pair_questions(shown, asked, Templates(), Annotation(scores="expected"))
    grades = {"structured_outputs": {"regex": "[2-9] [2-9]"}}
    outcomes, [body] = ask(tmp_path, asked, replace(question, extra={**question.extra, **grades}))
    found = outcomes["p"].value
    assert found.mode == "expected"
    content = json.loads(body)["choices"][0]["logprobs"]["content"]
    for at, value in zip((0, 2), found.values, strict=True):
        top = {t["token"]: math.exp(t["logprob"]) for t in content[at]["top_logprobs"] if t["token"].isdigit()}
        assert sum(top.values()) == pytest.approx(1.0, abs=1e-4)
        assert value == pytest.approx(sum(int(grade) * p for grade, p in top.items()), abs=1e-3)


def test_what_is_too_long_is_a_counted_drop(tmp_path, model, server):
    long = [{"role": "user", "content": "x" * 2000}]
    outcomes, _ = ask(tmp_path, teacher(model, server), Question("q", long, str))
    assert isinstance(outcomes["q"], Failed)
    assert "too long for the model" in outcomes["q"].reason
    assert not outcomes["q"].gave_up


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"extra_body": {"top_k": "many"}}, "top_k"),
        ({"extra_body": {"temperature": -3.0}}, "temperature"),
        ({"extra_body": {"logprobs": True, "top_logprobs": 30}}, "logprobs"),
    ],
)
def test_a_parameter_that_is_not_taken_is_named(tmp_path, model, server, fields, name):
    with pytest.raises(EndpointError, match=rf"does not take the parameter {name} "):
        ask(tmp_path, teacher(model, server, **fields), Question("q", HELLO, str))


def test_a_model_that_is_not_served_stops_the_run(tmp_path, server):
    with pytest.raises(EndpointError, match="does not exist"):
        ask(tmp_path, ChatModel(model="another", base_url=server), Question("q", HELLO, str))


def pair_rows(texts):
    scores = {"chosen": "abc", "rejected": "h", "chosen_score": 8.0, "rejected_score": 2.0}
    return [{"prompt": f"say {n}", **scores, "teacher_response": text} for n, text in enumerate(texts)]


def log_probabilities(model: Path, ids):
    lm = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    with torch.no_grad():
        return lm(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


def check_store(model: Path, store: TopKStore, encoded, k: int) -> None:
    """The store's rows against a forward pass of the same weights, and that the most probable ones are there."""
    row = store.get(encoded.key, [encoded.ids[at] for at in encoded.response])
    own = log_probabilities(model, encoded.ids)
    for number, at in enumerate(encoded.response):
        first, last = row.start_T1[number : number + 2]
        ids, log_p = row.id_N[first:last], row.log_p_N[first:last]
        expected = own[at - 1]
        assert np.abs(expected[ids].numpy() - log_p).max() < 1e-3
        assert set(expected.topk(k).indices.tolist()) <= set(ids.tolist())


def test_distributions_of_given_responses_are_those_of_the_model(tmp_path, model, server):
    texts = ["hello there", "ünïcode ☃", "a"]
    write_rows(tmp_path / "pairs.jsonl", pair_rows(texts))
    file = tmp_path / "store.safetensors"
    given = (str(tmp_path / "pairs.jsonl"), teacher(model, server), str(model), str(file), 5, None)
    assert ask_distributions(*given, WorldParts(World(), 0)) == 3
    chat, store = load_chat(str(model)), TopKStore.open(file)
    for n, text in enumerate(texts):
        encoded = chat.encode([{"role": "user", "content": f"say {n}"}], text, supervised=True)
        check_store(model, store, encoded, 5)
    first = file.read_bytes()
    assert ask_distributions(*given, WorldParts(World(), 0)) == 3  # out of the ledger
    assert file.read_bytes() == first


@pytest.mark.parametrize("token_ids", [True, False])
def test_what_the_teacher_says_with_its_responses_is_kept_and_trained_on(tmp_path, model, server, token_ids):
    config = parse_config(
        {
            "output": str(tmp_path / "run"),
            "scenario": "labeled",
            "pairs": {"path": "none"},
            "teacher": {"model": str(model), "base_url": server, "sampling": {"max_tokens": 40}},
            "rm_distiller": {"kl_top_logprobs": 8, "kl_token_ids": token_ids},
            "student": {"model": str(model)},
        }
    )
    prompts = [Prompt.from_text(f"say {n}") for n in range(4)]
    with open_engine(config.ledger_path, {}) as engine:
        said, _ = ask_references(prompts, config.teacher, engine, config.rm_distiller.reference_fields)
    assert len(said) == 4
    rows = pair_rows([said[prompt.id] for prompt in prompts])
    write_rows(tmp_path / "pairs.jsonl", rows)
    pairs, _ = load_pairs("pairs", enumerate(rows, 1), {}, scored=True)
    chat, file = load_chat(str(model)), tmp_path / "kept.safetensors"
    keep_distributions(file, config, WorldParts(World(), 0), chat, pairs)
    store = TopKStore.open(file)
    assert len(store) == 4
    for prompt in prompts:
        check_store(model, store, chat.encode(prompt.as_dicts(), said[prompt.id], supervised=True), 8)
    for name, path in (("kept", file), ("given", tmp_path / "given.safetensors")):
        if name == "given":
            asked = teacher(model, server)
            ask_distributions(
                str(tmp_path / "pairs.jsonl"), asked, str(model), str(path), 8, None, WorldParts(World(), 0)
            )
        output = tmp_path / name
        changes = [f"rm_distiller.kl_store={path}", "rm_distiller.beta=0.2", "training.threads=1"]
        settings = training_config(str(tmp_path / "pairs.jsonl"), str(model), str(output), "rm_distiller", changes)
        facts = train_on_pairs(settings, WorldParts(World(), 0))["training"]
        assert facts["pairs"] == 4
        last = json.loads((output / "training.jsonl").read_text().splitlines()[-1])
        assert abs(last["kl"]) < 1  # the student is the teacher, but for what one step has changed


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, more = set(), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        found |= more
    return found


def test_a_server_ends_with_a_run_that_is_killed(tmp_path, model):
    script = Path(__file__).with_name("killed_child.py")
    environment = {**os.environ, **served.environment()}
    command = [sys.executable, str(script), str(model), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as child:
        try:
            assert child.stdout.readline() == "answered\n"
            started = descendants(child.pid)
            assert len(started) >= 2  # the leash, vLLM and its engine
        finally:
            child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (left := [pid for pid in started if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
