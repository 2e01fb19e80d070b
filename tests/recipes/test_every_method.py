"""Each method end to end on a micro testbed: pairs, training, the saved model and what it needs, figures, cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from micro import micro_config, run_bytes

from reward_distiller.config import Config, parse_config
from reward_distiller.errors import ConfigError, NeedsCritique
from reward_distiller.methods import METHODS
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import Trainer
from reward_distiller.recipes.reward_model import dry_run, run, train_on_pairs
from reward_distiller.testbed.parts import TestbedParts

PROMPT = "name two fruits but not mango ."


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("testbed")


def config_of(folder: Path, cache: Path, method: str, **changes: Any) -> Config:
    data = micro_config(folder, method=method, cloud={"max_tokens": 8}, **changes)
    data["testbed"]["cache"] = str(cache)
    return parse_config(data)


def do_run(config: Config) -> dict[str, Any]:
    return run(config, TestbedParts(config.testbed, config.seed))


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def facts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run" / "model" / "config.json").read_text("utf-8"))["reward_distiller"]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_ends_in_a_model_that_others_load(method: str, tmp_path: Path, cache: Path) -> None:
    results = do_run(config_of(tmp_path, cache, method))
    assert set(results["testbed"]) == {"easy", "normal", "hard", "average"}
    folder = tmp_path / "run" / "model"
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert classifier.score.weight.shape[0] == 1
    assert torch.isfinite(classifier.score.weight).all()
    assert json.loads((tmp_path / "run" / "timing.json").read_text("utf-8"))["train_seconds"] > 0
    assert facts_of(tmp_path)["method"] == method
    assert results["training"]["steps"] > 0


def test_synrm_scores_nothing_without_critiques(tmp_path: Path, cache: Path) -> None:
    results = do_run(config_of(tmp_path, cache, "synrm"))
    assert facts_of(tmp_path)["needs_at_inference"]["critique"] == "teacher"
    assert "**It reads a critique.**" in (tmp_path / "run" / "model" / "README.md").read_text("utf-8")
    assert all(row["chosen_critique"] and row["rejected_critique"] for row in rows_of(tmp_path / "run" / "pairs.jsonl"))
    steps = {row["step"]: row["calls"] for row in results["cost"]}
    assert steps["evaluate: critique"] > 0
    model = RewardModel.from_pretrained(str(tmp_path / "run" / "model"))
    with pytest.raises(NeedsCritique):
        model.score(PROMPT, ["plum , fig ."])
    good, bad = (model.score(PROMPT, ["plum , fig ."], [text])[0] for text in ("nothing is wrong with it .", "wrong ."))
    assert good != bad


def test_synrm_without_a_teacher_is_refused_before_it_trains(tmp_path: Path, cache: Path) -> None:
    rows = [
        {"prompt": PROMPT, "chosen": f"plum , {w} .", "rejected": f"boots , {w} .", "chosen_critique": "right ."}
        for w in ("fig", "lemon")
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps(row) for row in rows))

    def config(prompts: int) -> Config:
        made = config_of(tmp_path, cache, "synrm", evaluation={"testbed_prompts": prompts}).given
        recorded = {"scenario": "labeled", "prompts": None, "candidates": [], "teacher": None}
        return parse_config({**made, **recorded, "pairs": {"path": str(pairs)}})

    parts = TestbedParts(config(0).testbed, 0)
    with pytest.raises(ConfigError, match="name a `teacher`"):
        train_on_pairs(config(20), parts)
    with pytest.raises(NeedsCritique, match="has not both"):
        train_on_pairs(config(0), parts)
    assert not (tmp_path / "run" / "training.jsonl").exists()
    full = [{**row, "rejected_critique": "wrong ."} for row in rows]
    pairs.write_text("\n".join(json.dumps(row) for row in full))
    assert train_on_pairs(config(0), parts)["training"]["pairs"] == 2


def test_cloud_writes_its_own_critiques(tmp_path: Path, cache: Path) -> None:
    do_run(config_of(tmp_path, cache, "cloud"))
    own = {row["id"]: row for row in rows_of(tmp_path / "run" / "own_critiques.jsonl")}
    pairs = rows_of(tmp_path / "run" / "pairs.jsonl")
    assert set(own) == {row["id"] for row in pairs}
    assert any(own[row["id"]]["chosen"] != row["chosen_critique"] for row in pairs)
    written = rows_of(tmp_path / "run" / "training-sft.jsonl")
    assert written[-1]["nll"] < written[0]["nll"]
    assert all(row["nll"] > 0 for row in rows_of(tmp_path / "run" / "training.jsonl"))
    model = RewardModel.from_pretrained(str(tmp_path / "run" / "model"))
    texts = ["plum , fig .", "boots , fig ."]
    (critiques,) = model.critiques([(PROMPT, texts)]) or [[]]
    assert model.score(PROMPT, texts) == model.score(PROMPT, texts, critiques)


def test_cloud_ends_in_the_same_bytes_when_it_is_cut_off_in_either_stage(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = config_of(tmp_path / "whole", cache, "cloud", training={"threads": 1, "checkpoint_every": 1})
    do_run(whole)
    cut = config_of(tmp_path / "cut", cache, "cloud", training={"threads": 1, "checkpoint_every": 1})
    step, taken = Trainer._step, []

    def dying(self: Trainer, *arguments: Any) -> Any:
        taken.append(self.name)
        if len(taken) in (2, 7):
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "_step", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            do_run(cut)
    do_run(cut)
    assert taken[1] == "sft"
    assert taken[6] == "train"
    left, right = (run_bytes(tmp_path / name / "run") for name in ("whole", "cut"))
    for bytes_of in (left, right):
        for name in ("config.yaml", "results.json"):  # they name the folder
            bytes_of.pop(name)
    assert {name for name in left.keys() | right.keys() if left.get(name) != right.get(name)} == set()


def test_rmboost_asks_no_candidates(tmp_path: Path, cache: Path) -> None:
    config = config_of(tmp_path, cache, "rmboost", candidates=[])
    results = do_run(config)
    assert {row["step"] for row in results["cost"]} == {"reference", "rewrite"}
    pairs = rows_of(tmp_path / "run" / "pairs.jsonl")
    assert {row["source"] for row in pairs} == {"rewritten"}
    for row in pairs:
        side = "chosen" if row["provenance"]["direction"] == "worse" else "rejected"
        assert row[side][0]["content"] == row["teacher_response"]
    _, estimates = dry_run(config, TestbedParts(config.testbed, config.seed))
    assert [e.step for e in estimates] == ["reference", "rewrite"]


def test_a_method_that_draws_candidates_needs_two(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match="at least two `candidates`"):
        do_run(config_of(tmp_path, cache, "lsam", candidates=[]))


def test_steerlm_with_several_attributes_is_one_plain_head(tmp_path: Path, cache: Path) -> None:
    weights = {"overall": 0.5, "correctness": 1.0, "detail": -0.25}
    config = config_of(tmp_path, cache, "steerlm", steerlm={"attributes": weights})
    results = do_run(config)
    assert {row["step"] for row in results["cost"]} == {"candidates", "annotate", "attributes"}
    pairs = rows_of(tmp_path / "run" / "pairs.jsonl")
    assert all(set(row["chosen_attributes"]) == {"correctness", "detail"} for row in pairs)
    assert "correctness x 1, detail x -0.25" in (tmp_path / "run" / "model" / "README.md").read_text("utf-8")
    assert len(RewardModel.from_pretrained(str(tmp_path / "run" / "model")).score(PROMPT, ["plum ."])) == 1


@pytest.mark.parametrize("teacher", ["teacher", "teacher-b"])
def test_labeled_testbed_pairs_go_through_either_teacher(teacher: str, tmp_path: Path, cache: Path) -> None:
    data = {"scenario": "labeled", "prompts": None, "candidates": [], "pairs": {"testbed": {"count": 40}}}
    results = do_run(
        config_of(tmp_path, cache, "rm_distiller", teacher={"model": teacher, "base_url": "testbed"}, **data)
    )
    assert results["training"]["pairs_by_source"]["labeled"] > 0
    assert {row["model"] for row in results["cost"]} == {teacher}
