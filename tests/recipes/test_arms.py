"""Arms: what they may change, what they share, and the table. The runs themselves are stood in for by figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reward_distiller.config import Config, parse_config
from reward_distiller.errors import ConfigError, DataError
from reward_distiller.recipes import arms as recipe
from reward_distiller.recipes.arms import arm_config, load_arms, run_arms, table


def recorded_config() -> Config:
    return parse_config(
        {
            "output": "runs/x",
            "scenario": "labeled",
            "pairs": {"path": "pairs.jsonl"},
            "rm_distiller": {"refine": False, "beta": 0.0},
            "student": {"model": "testbed"},
        }
    )


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 5, "high": value + 5, "n": 40}


def results_of(accuracy: float, longer: float = 70.0) -> dict[str, Any]:
    held_out = {"accuracy": figure(accuracy), "longer_response": figure(longer), "too_long": 3}
    return {"held_out": held_out, "training": {"pairs": 100}}


def test_arms_are_run_in_their_folders_and_tabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Config] = []

    def run(config: Config, parts: Any) -> dict[str, Any]:
        ran.append(config)
        return results_of(60.0 + len(ran))

    monkeypatch.setattr(recipe, "run", run)
    checked: list[Config] = []
    monkeypatch.setattr(recipe, "read_inputs", lambda config, parts: checked.append(config))
    monkeypatch.setattr(recipe, "student_chat", lambda config, parts: checked.append(config))
    arms = {"bt": ["method=bradley_terry"], "margin": ["rm_distiller.alpha=0.0"]}
    results = run_arms(recorded_config(), None, arms, tmp_path)  # type: ignore[arg-type]
    assert len(checked) == 2 * len(arms)
    assert [c.output for c in ran] == [str(tmp_path / "bt"), str(tmp_path / "margin")]
    assert {c.ledger for c in ran} == {str(tmp_path / "ledger.sqlite")}
    assert results["arms"]["bt"]["overrides"] == ["method=bradley_terry"]
    assert (tmp_path / "results.json").is_file()
    assert (tmp_path / "table.md").read_text("utf-8").splitlines() == [
        "|  | training pairs | held-out pairs |",
        "|---|---:|---:|",
        "| bt | 100 | 61.0 [56.0, 66.0] |",
        "| margin | 100 | 62.0 [57.0, 67.0] |",
        "| always the longer response | – | 70.0 [65.0, 75.0] |",
        "",
        "Percent right, with 95% intervals; seed 0. Held-out pairs are of 40 prompts unseen in training; 3 more were "
        "too long. Refinement off: all arms. Recorded teacher (scores read from the data set, no calls): all arms.",
    ]


def test_trivial_scorers_of_other_held_out_pairs_get_their_own_row() -> None:
    entry = {"overrides": [], "teacher": "gpt-4o", "refinement": False}
    other = {"overrides": [], "teacher": None, "refinement": True}
    arms = {"a": {**entry, "results": results_of(60)}, "b": {**other, "results": results_of(60, longer=50.0)}}
    text = table({"seed": 0, "arms": arms})
    assert "| always the longer response (a) | – | 70.0 [65.0, 75.0] |" in text
    assert "| always the longer response (b) | – | 50.0 [45.0, 55.0] |" in text
    assert "Refinement off: a." in text
    assert "no calls): b." in text


def test_no_arm_runs_where_one_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(config: Config, parts: Any) -> dict[str, Any]:
        raise AssertionError("an arm has run")

    monkeypatch.setattr(recipe, "run", run)
    for wrong in ("method=unheard_of", "training.epoch=2", "seed=1", "testbed.noise=0.0"):
        with pytest.raises(ConfigError):
            run_arms(recorded_config(), None, {"good": [], "wrong": [wrong]}, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"pairs\.jsonl: there is no such file"):
        run_arms(recorded_config(), None, {"good": []}, tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_override_means_in_an_arm_what_it_means_in_a_run() -> None:
    """What depends on what else was written (beta on kl_teacher) is filled in after the arm's changes."""
    data = {**recorded_config().given, "rm_distiller": {"refine": False}}
    arm = arm_config(parse_config(data), "kl", ["rm_distiller.kl_teacher=testbed"], Path("out"))
    assert arm.rm_distiller.beta == 0.2


def test_an_arm_leaves_the_config_as_it_is() -> None:
    config = recorded_config()
    arm = arm_config(config, "deep", ["training.epochs=3"], Path("out"))
    assert arm.training.epochs == 3
    assert config.training.epochs == 1
    same = arm.model_copy(update={"training": config.training, "output": "runs/x", "ledger": None})
    assert same.model_dump() == config.model_dump()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "mapping of names"),
        ("", "mapping of names"),
        ("a: method=bradley_terry\n", "arm a: write its changes as a list"),
        ("a: [{method: x}]\n", "arm a: write its changes as a list"),
        ("../a: []\n", "'../a' is no name for an arm"),
        ("results.json: []\n", "is no name for an arm"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_bad_arms_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "arms.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"arms\.yaml") as caught:
        load_arms(path)
    assert said in str(caught.value)
    with pytest.raises(ConfigError, match="no such file"):
        load_arms(tmp_path / "none.yaml")
