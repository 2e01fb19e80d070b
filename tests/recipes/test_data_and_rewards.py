"""The second system: the runs that it is made of, each by itself and all together."""

import json
import random
from pathlib import Path

import pytest
import yaml
from micro import cli

from reward_distiller.config import load_run, parse_run
from reward_distiller.errors import ConfigError
from reward_distiller.files import read_rows
from reward_distiller.recipes.store import Store
from reward_distiller.recipes.whole_runs import check_run, do_run
from reward_distiller.testbed.language import World
from reward_distiller.testbed.parts import TestbedParts

WORLD = {"pretrain_steps": 20, "pretrain_threads": 1}
ROLLOUT = {"prompts_per_step": 4, "responses_per_prompt": 2, "max_prompt_length": 32, "max_response_length": 16}
OPTIMIZATION = {
    "steps": 2,
    "updates_per_step": 1,
    "rows_per_batch": 8,
    "learning_rate": 1e-3,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("data-and-rewards")


def whole(folder: Path, **changes):
    return {
        "recipe": "data_and_rewards",
        "output": str(folder / "run"),
        "store": str(folder / "store"),
        "prompts": {"testbed": {"split": "train", "count": 24}},
        "teacher": {"model": "fallible", "base_url": "testbed"},
        "student": {"model": "testbed"},
        "samples": {"teacher": 4, "student": 4},
        "labels": {"answers": {"format": "testbed"}, "judge": {"model": "fallible", "base_url": "testbed"}},
        "warm_up": {"sft": {"rows_per_step": 8}, "optimization": OPTIMIZATION},
        "reward_model": {
            "loss": "bce",
            "training": {"learning_rate": 1e-3, "max_length": 128, "threads": 1, "device": "cpu"},
            "evaluation": {"held_out": 0.2},
        },
        "reinforcement": {"optimization": OPTIMIZATION, "guards": {"every": 2, "prompts": 4}},
        "rollout": ROLLOUT,
        "evaluation": {"prompts": {"testbed": {"split": "test", "count": 8}}},
        "testbed": {**WORLD, "cache": str(folder / "testbed")},
        **changes,
    }


def sampled(folder: Path, **changes):
    return {
        "recipe": "pseudo_rewards",
        "output": str(folder),
        "prompts": {"path": str(folder.parent / "prompts.jsonl")},
        "samples": 3,
        "labels": {"answers": {"format": "testbed"}},
        "max_prompt_length": 32,
        "max_response_length": 16,
        "threads": 1,
        "device": "cpu",
        "testbed": {**WORLD, "cache": str(folder.parent / "testbed")},
        **changes,
    }


def do(settings):
    config = parse_run(settings)
    return do_run(config, TestbedParts(config.testbed, config.seed))


def rows_in(path) -> list[dict]:
    return [row for _, row in read_rows(path)]


# -- what it is made of ---------------------------------------------------------------------------------


def names(**changes):
    return list(parse_run(whole(Path("somewhere"), **changes)).made)


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({}, ["teacher", "warm_up", "student_1", "reward_model_1", "policy_1"]),
        ({"reward": "none"}, ["teacher", "warm_up"]),
        ({"reward": "labels"}, ["teacher", "warm_up", "policy_1"]),
        ({"reward": "judge"}, ["teacher", "warm_up", "policy_1"]),
        ({"reward": "truth"}, ["teacher", "warm_up", "policy_1"]),
        ({"reward_model": {"data": "teacher"}}, ["teacher", "warm_up", "reward_model_1", "policy_1"]),
        ({"reward_model": {"data": "student"}}, ["teacher", "warm_up", "student_1", "reward_model_1", "policy_1"]),
    ],
)
def test_each_ablation_makes_the_runs_that_it_needs(changes, runs):
    assert names(**changes) == runs


def test_a_round_starts_from_the_policy_of_the_last_and_adds_its_responses():
    config = parse_run(whole(Path("somewhere"), rounds=2))
    runs = {name: made.run for name, made in config.made.items()}
    assert list(runs)[5:] == ["student_2", "reward_model_2", "policy_2"]
    assert runs["student_2"]["policy"]["made_by"]["run"] == runs["policy_1"]
    assert runs["policy_2"]["policy"]["made_by"]["run"] == runs["policy_1"]
    sources = [source["made_by"]["run"] for source in runs["reward_model_2"]["responses"]]
    assert sources == [runs["teacher"], runs["student_1"], runs["student_2"]]


def test_ablations_share_what_they_have_in_common(tmp_path):
    store = Store(tmp_path)
    one, other = (parse_run(whole(tmp_path, **c)) for c in ({}, {"reward": "truth"}))
    keys = [{name: store.key(store.made(made)) for name, made in config.made.items()} for config in (one, other)]
    assert keys[0]["warm_up"] == keys[1]["warm_up"]
    assert keys[0]["policy_1"] != keys[1]["policy_1"]
    assert store.key(one) != store.key(other)


def test_terms_of_the_user_can_be_the_whole_reward():
    config = whole(Path("somewhere"), reward="terms")
    config["reinforcement"]["rewards"] = {"short": {"length": 10}}
    runs = {name: made.run for name, made in parse_run(config).made.items()}
    assert list(runs) == ["teacher", "warm_up", "policy_1"]
    assert set(runs["policy_1"]["rewards"]) == {"short"}


def test_pairs_are_the_default_where_a_judge_gives_grades():
    config = whole(Path("somewhere"))
    del config["reward_model"]["loss"]
    assert parse_run(config).loss == "bradley_terry"
    del config["labels"]["judge"]
    assert parse_run(config).loss == "bce"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward": "none", "rounds": 2}, "no rounds"),
        ({"reward": "judge", "labels": {"answers": {"format": "testbed"}}}, "labels.judge"),
        ({"labels": {"consensus": "given"}}, "vote is the teacher's"),
        ({"student": {"made_by": {"run": {}}}}, "name a model"),
        ({"reward": "terms"}, "needs `reinforcement.rewards`"),
        ({"rewards": "model"}, "unknown key"),
    ],
)
def test_what_cannot_be_is_said_by_the_config(changes, said):
    with pytest.raises(ConfigError, match=said):
        parse_run(whole(Path("somewhere"), **changes))


def test_open_ended_prompts_need_a_judge_before_anything_is_made(tmp_path):
    config = parse_run(whole(tmp_path, labels={"answers": {"format": "testbed"}}))
    with pytest.raises(ConfigError, match=r"labels\.judge"):
        check_run(config, TestbedParts(config.testbed, 0))
    assert not (tmp_path / "store").exists()


# -- all together ---------------------------------------------------------------------------------------


def test_the_command_makes_it_whole_and_a_second_run_makes_nothing_again(folder):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(whole(folder)))
    done = cli("run", path)
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "run/results.json").read_text())
    assert set(results["runs"]) == {"teacher", "warm_up", "student_1", "reward_model_1", "policy_1"}
    assert 0 <= results["policy"]["accuracy"]["value"] <= results["policy"]["quality"]["value"] <= 100
    assert results["spent"]["teacher_samples"]["value"] == 4 * 24 - 4 * dropped(results)
    assert results["spent"]["calls"]["value"] == sum(row["calls"] for row in results["cost"])
    assert "policy_1 | accuracy" in done.stdout
    assert (folder / "run/model/config.json").samefile(Path(results["model"]) / "config.json")
    assert (folder / "run/reward_model/config.json").samefile(Path(results["reward_model"]) / "config.json")
    files = {p: p.stat().st_mtime_ns for p in (folder / "store").rglob("model/*")}
    again = cli("run", path)
    assert again.returncode == 0, again.stderr
    assert "started" not in again.stderr
    assert {p: p.stat().st_mtime_ns for p in (folder / "store").rglob("model/*")} == files


def dropped(results) -> int:
    balances = json.loads((Path(results["runs"]["teacher"]) / "balance.json").read_text())
    return next(b["dropped"] for b in balances if b["step"] == "vote")


def test_an_ablation_runs_with_the_labels_themselves_as_the_reward(folder):
    """The vote's consensus where there is one, and the judge in the loop where there is none."""
    results = do(whole(folder, reward="labels", output=str(folder / "labels")))
    log = rows_in(Path(results["runs"]["policy_1"]) / "rl.jsonl")
    assert all(0 <= row["reward_labels"] <= 1 for row in log)
    judged = [row for row in results["cost"] if (row["run"], row["step"]) == ("policy_1", "judge responses")]
    assert judged[0]["calls"] > 0


# -- labels ---------------------------------------------------------------------------------------------


def write_prompts(folder: Path, count: int = 20, **columns) -> None:
    world = World(0)
    texts = world.prompts(count, 0, "train", ["facts", "repeat", "reverse"])
    with (folder / "prompts.jsonl").open("w") as file:
        for at, text in enumerate(texts):
            file.write(json.dumps({"prompt": text, **{name: f(at) for name, f in columns.items()}}) + "\n")


TEACHER = {"teacher": {"model": "fallible", "base_url": "testbed"}}


def test_gold_answers_are_never_read_by_labeling(tmp_path):
    """With another gold answer in every row, and with none, the labels are the same."""
    labels = []
    golds = {"none": {}, "poisoned": {"answer": lambda at: f"wrong {at}"}, "absurd": {"answer": lambda at: [at]}}
    for name, columns in golds.items():
        (tmp_path / name).mkdir()
        write_prompts(tmp_path / name, **columns)
        do(sampled(tmp_path / name / "run", **TEACHER, samples=6))
        labels.append([(tmp_path / name / "run" / f).read_bytes() for f in ("responses.jsonl", "demonstrations.jsonl")])
    assert labels[0] == labels[1] == labels[2]


def test_what_is_left_carries_its_row_and_its_consensus(tmp_path):
    write_prompts(tmp_path, topic=lambda at: at)
    results = do(sampled(tmp_path / "run", **TEACHER, samples=6))
    prompts, responses = rows_in(tmp_path / "run/prompts.jsonl"), rows_in(tmp_path / "run/responses.jsonl")
    assert all({"topic", "consensus", "consensus_share"} <= row.keys() for row in prompts)
    consensus = {row["prompt"][-1]["content"]: row["consensus"] for row in prompts}
    for row in responses:
        assert row["reward"] == float(row["answer"] == consensus[row["prompt"][-1]["content"]])
    good = [row for row in rows_in(tmp_path / "run/demonstrations.jsonl")]
    assert good
    assert all(row["reward"] == 1 for row in good)
    accuracy = results["responses"]["accuracy"]["value"]
    assert accuracy < results["vote"]["accuracy"]["value"] < 100  # a vote helps, and is no oracle
    assert results["chosen"]["accuracy"]["value"] <= results["vote"]["accuracy"]["value"]  # without one it is wrong


def test_a_policy_that_was_cut_off_goes_on_and_writes_the_same(tmp_path):
    """Its responses are labeled by the consensus that the rows bring along."""
    world = World(0)

    def right(at):
        text = world.prompts(20, 0, "train", ["facts", "repeat", "reverse"])[at]
        return " ".join(world.right_items(world.read(text), random.Random(0)))

    write_prompts(tmp_path, consensus=right)
    given = {"policy": {"model": "testbed"}, "labels": {"answers": {"format": "testbed"}, "consensus": "given"}}
    results = do(sampled(tmp_path / "whole", **given))
    do(sampled(tmp_path / "cut", **given))
    kept = (tmp_path / "cut/samples.jsonl").read_text()
    first = kept.index("\n") + 1
    (tmp_path / "cut/samples.jsonl").write_text(kept[: first + 40])  # one chunk, and half a line
    for name in ("responses.jsonl", "results.json"):
        (tmp_path / "cut" / name).unlink()
    do(sampled(tmp_path / "cut", **given))
    for name in ("responses.jsonl", "samples.jsonl", "demonstrations.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert results["counts"] == {"queries": 20, "responses": 60}
    assert results["responses"]["labels_right"]["value"] == 100  # the consensus is the truth here


def test_pairs_of_labeled_responses_train_other_methods(folder):
    config = whole(folder, output=str(folder / "pairs"))
    config["reward_model"]["loss"] = "margin_regression"
    results = do(config)
    facts = json.loads((Path(results["runs"]["reward_model_1"]) / "model/config.json").read_text())["reward_distiller"]
    assert facts["method"] == "rm_distiller"
    assert facts["pairs"] > 0


def test_the_configs_load():
    config = load_run("configs/testbed-data-and-rewards.yaml")
    assert list(config.made) == ["teacher", "teacher_test", "warm_up", "student_1", "reward_model_1", "policy_1"]
