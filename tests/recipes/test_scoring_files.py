"""Rows in, rows with rewards out, for models that read critiques: checked first, written whole or not at all."""

import json
import random
import sqlite3
from contextlib import contextmanager

import pytest
import tiny
import torch
import transformers
import yaml
from helpers import FunctionTransport
from micro import cli

from reward_distiller.config import parse_config
from reward_distiller.errors import CallsFailed, ConfigError, DataError, ModelError, NeedsCritique, RewardDistillerError
from reward_distiller.files import read_rows, write_rows
from reward_distiller.model.critiques import CritiqueNeed, with_critique
from reward_distiller.model.export import save_reward_model
from reward_distiller.model.loading import build_network
from reward_distiller.model.reward_model import TooLong
from reward_distiller.recipes.critics import teacher_critic
from reward_distiller.recipes.scoring import score_file

REQUEST = "Critique your last reply."
ROWS = [
    {"prompt": "How old is the oak?", "responses": ["100 years", "I would say that it is old"], "mine": 7},
    {"prompt": [{"role": "user", "content": "Why?"}], "responses": ["So."], "system": "Be kind."},
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A checkpoint for each source of critiques."""
    folders = {}
    for source in ("teacher", "self", None):
        chat = tiny.chat(pad_token="<pad>", eos_token="<|im_end|>")
        network = build_network(tiny.tiny_lm(len(chat.tokenizer), "Qwen3", head_dim=8), chat, 0)
        folders[source] = tmp_path_factory.mktemp("models") / str(source)
        need = CritiqueNeed(source, REQUEST, 12).as_dict() if source else None
        save_reward_model(network, chat, folders[source], {"needs_at_inference": need})
    return folders


@pytest.fixture
def files(tmp_path):
    source, target = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    write_rows(source, ROWS)
    return source, target


def plain_rewards(folder, row):
    """As anyone gets them with transformers alone, from a row that was written."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    prompt = [{"role": "user", "content": row["prompt"]}] if isinstance(row["prompt"], str) else row["prompt"]
    prompt = [{"role": "system", "content": row["system"]}, *prompt] if "system" in row else prompt
    rewards = []
    for response, critique in zip(row["responses"], row["critiques"], strict=True):
        turns = [*with_critique(prompt, response, REQUEST), {"role": "assistant", "content": critique}]
        batch = tokenizer(
            tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False, return_tensors="pt"
        )
        with torch.no_grad():
            rewards.append(model(**batch).logits.item())
    return rewards


def scored(target):
    return [row for _, row in read_rows(target)]


@contextmanager
def critic_of(answer):
    yield lambda rows: [[answer(messages, r) for r in responses] for messages, responses in rows]


def test_a_model_that_writes_its_critiques_shows_what_it_read(models, files, tmp_path):
    source, target = files
    assert score_file(str(models["self"]), str(source), str(target)) == 2
    rows = scored(target)
    assert [row["mine"] for row in rows[:1]] == [7]
    for row in rows:
        assert len(row["critiques"]) == len(row["responses"])
        assert row["rewards"] == pytest.approx(plain_rewards(models["self"], row), abs=1e-5)
    again = tmp_path / "again.jsonl"  # what was written is read, so that the same rows have the same rewards
    score_file(str(models["self"]), str(target), str(again))
    assert [row["critiques"] for row in scored(again)] == [row["critiques"] for row in rows]
    assert [row["rewards"] for row in scored(again)] == [row["rewards"] for row in rows]


def test_critiques_of_the_rows_are_read_and_only_the_rest_is_asked_for(models, files):
    source, target = files
    write_rows(source, [{**ROWS[0], "critiques": ["right", "vague"]}, {**ROWS[1], "critiques": None}])
    asked = []

    def answer(messages, response):
        asked.append((messages, response))
        return response.upper()

    score_file(str(models["teacher"]), str(source), str(target), critic=critic_of(answer))
    assert [row["critiques"] for row in scored(target)] == [["right", "vague"], ["SO."]]
    system = {"role": "system", "content": "Be kind."}
    assert asked == [([system, {"role": "user", "content": "Why?"}], "So.")]
    for row in scored(target):
        assert row["rewards"] == pytest.approx(plain_rewards(models["teacher"], row), abs=1e-5)


def test_a_model_that_reads_none_writes_none(models, files):
    source, target = files
    score_file(str(models[None]), str(source), str(target))
    assert [set(row) for row in scored(target)] == [set(row) | {"rewards"} for row in ROWS]


@pytest.mark.parametrize(
    ("model", "changes", "error", "said"),
    [
        ("teacher", {}, NeedsCritique, r"row 1 has none. Give `critiques` with the rows, or .*--teacher CONFIG"),
        ("teacher", {"critiques": "good"}, DataError, r"rows.jsonl, row 2, field 'critiques': not a list of texts"),
        ("teacher", {"critiques": [3]}, DataError, r"row 2, field 'critiques': not a list of texts"),
        ("teacher", {"critiques": ["a", "b"]}, DataError, r"row 2, field 'critiques': 2 of 1 responses"),
        ("teacher", {"critiques": ["\ud800"]}, DataError, r"row 2: cannot be written as JSON"),
        ("self", {"critiques": ["x" * 600]}, TooLong, r"rows.jsonl: row 2: a response with its critique"),
        ("self", {"responses": ["x" * 600]}, TooLong, r"rows.jsonl: row 2: a response with its critique"),
        (None, {"critiques": ["good"]}, DataError, r"row 2, field 'critiques': .*reads none. Remove or rename"),
    ],
)
def test_what_is_wrong_with_rows_is_found_before_anything_is_computed(
    models, files, monkeypatch, model, changes, error, said
):
    source, target = files
    source.write_text("".join(json.dumps(row) + "\n" for row in (ROWS[0], {**ROWS[1], **changes})))
    monkeypatch.setattr("reward_distiller.model.reward_model.RewardModel._forward", must_not_run)
    monkeypatch.setattr("reward_distiller.model.generation.Generator.generate", must_not_run)
    with pytest.raises(error, match=said):
        score_file(str(models[model]), str(source), str(target))
    assert not target.exists()


def must_not_run(*args, **kwargs):
    raise AssertionError("something was computed")


@pytest.mark.parametrize("model", ["self", None])
def test_a_teacher_for_a_model_that_reads_none_is_refused(models, files, model):
    source, target = files
    with pytest.raises(ModelError, match=r"reads no teacher's critiques. Leave the critic \(score --teacher\) out"):
        score_file(str(models[model]), str(source), str(target), critic=critic_of(must_not_run))
    assert not target.exists()


# -- a teacher of a run's config -----------------------------------------------------------------


class Parts:
    """A provider that answers for http://fake."""

    def __init__(self, answer):
        self.transport = FunctionTransport(answer)
        self.transports = {"http://fake": self.transport}

    def chat_model(self, model):
        return model


def run_config(folder, **teacher):
    return parse_config(
        {
            "scenario": "labeled",
            "output": str(folder / "run"),
            "pairs": {"path": "pairs.jsonl"},
            "teacher": {"model": "judge", "base_url": "http://fake", "retries": 0, "max_asks": 1, **teacher},
            "student": {"model": "somewhere"},
        }
    )


def test_a_teachers_critiques_come_through_the_runs_ledger(models, files, tmp_path):
    source, target = files
    parts, config = Parts(lambda request: "It is vague."), run_config(tmp_path)
    for _ in range(2):
        score_file(str(models["teacher"]), str(source), str(target), critic=teacher_critic(config, parts))
        assert [row["critiques"] for row in scored(target)] == [["It is vague."] * 2, ["It is vague."]]
    assert len(parts.transport.asked) == 3  # bought once
    assert all("I would say" in text or "100 years" in text or "So." in text for text in parts.transport.last_texts)
    with sqlite3.connect(config.ledger_path) as ledger:
        assert {step for (step,) in ledger.execute("SELECT step FROM attempts")} == {"evaluate: critique"}


def test_a_critique_that_does_not_come_leaves_nothing_written(models, files, tmp_path):
    source, target = files
    parts = Parts(lambda request: "" if "So." in request["messages"][-1]["content"] else "It is vague.")
    with pytest.raises(CallsFailed, match="response 1 of row 2"):
        score_file(str(models["teacher"]), str(source), str(target), critic=teacher_critic(run_config(tmp_path), parts))
    assert not target.exists()


def test_rows_that_are_too_long_are_found_before_the_teacher_is_asked(models, files, tmp_path):
    source, target = files
    write_rows(source, [ROWS[0], {**ROWS[1], "responses": ["x" * 600]}])
    parts = Parts(must_not_run)
    with pytest.raises(TooLong, match="row 2"):
        score_file(str(models["teacher"]), str(source), str(target), critic=teacher_critic(run_config(tmp_path), parts))
    assert not parts.transport.asked


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": None}, "names no `teacher`"),
        ({"teacher": {"model": "x", "base_url": "http://fake", "api_key_env": "NO_SUCH_KEY_HERE"}}, "NO_SUCH_KEY_HERE"),
        ({"annotation": {"templates": "nowhere"}}, "there is no folder nowhere"),
    ],
)
def test_a_config_that_gives_no_critic_is_refused_before_the_model_is_loaded(files, tmp_path, changes, said):
    source, target = files
    config = parse_config({**run_config(tmp_path).given, **changes})
    with pytest.raises(ConfigError, match=said):
        score_file("nowhere", str(source), str(target), critic=teacher_critic(config, Parts(must_not_run)))


def test_the_command_with_a_teacher_and_without(models, files, tmp_path):
    source, target = files
    refused = cli("score", models["teacher"], "--input", source, "--output", target)
    assert refused.returncode == NeedsCritique.exit_code
    assert "--teacher CONFIG" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not target.exists()
    given = {**run_config(tmp_path).given, "teacher": {"model": "teacher", "base_url": "testbed"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(given))
    prompt = "name two fruits but not mango ."
    write_rows(source, [{"prompt": prompt, "responses": ["plum , fig .", "boots , fig ."]}])
    done = cli("score", models["teacher"], "--input", source, "--output", target, "--teacher", tmp_path / "run.yaml")
    assert done.returncode == 0, done.stderr
    (row,) = scored(target)
    assert len(set(row["critiques"])) == 2
    assert row["rewards"] == pytest.approx(plain_rewards(models["teacher"], row), abs=1e-5)


def test_every_error_has_an_exit_code_of_its_own_or_its_parents():
    assert NeedsCritique.exit_code not in {
        error.exit_code for error in RewardDistillerError.__subclasses__() if error is not NeedsCritique
    }


def test_two_orders_of_rows_have_the_same_rewards(models, files, tmp_path):
    source, target = files
    rows = [{"prompt": f"question {i} " + "x" * (i % 7), "responses": [f"answer {i}", "no"]} for i in range(6)]
    rewards = []
    for seed in range(2):
        order = random.Random(seed).sample(rows, len(rows))
        write_rows(source, order)
        score_file(str(models["self"]), str(source), str(target))
        rewards.append({row["prompt"]: row["rewards"] for row in scored(target)})
    for prompt, values in rewards[0].items():
        assert values == pytest.approx(rewards[1][prompt], abs=1e-5)
