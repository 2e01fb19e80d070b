"""Every config that `init` writes loads, passes the check of its run, and is what its comments say."""

import json

import pytest
import tiny
from micro import cli

from reward_distiller.config import Config, load_run
from reward_distiller.errors import ConfigError, FileError
from reward_distiller.recipes.cases import CASES, case_text, write_case
from reward_distiller.recipes.doctor.places import check_data
from reward_distiller.recipes.doctor.runs import runs_of
from reward_distiller.recipes.whole_runs import check_run
from reward_distiller.testbed.parts import TestbedParts

STUDENT = {"policy": "policy.model", "data_and_rewards": "student.model"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with all that a user is told to bring."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    prompts = [{"prompt": f"What is {n} and {n}?"} for n in range(4)]
    scores = {"chosen_score": 8, "rejected_score": 3}
    pairs = [{**row, "chosen": f"{2 * n}", "rejected": "no idea", **scores} for n, row in enumerate(prompts)]
    for name, rows in {"prompts": prompts, "test_prompts": prompts, "pairs": pairs}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = tiny.byte_tokenizer()
    tiny.tiny_lm(len(tokenizer) + 1).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path


@pytest.mark.parametrize("case", CASES)
def test_a_case_loads_and_its_run_passes_the_check(case, here):
    write_case(case, "mine.yaml")
    config = load_run("mine.yaml", [f"{STUDENT.get(case, 'student.model')}=lm"])
    check_run(config, TestbedParts(config.testbed, config.seed))
    assert config.output == f"runs/{case}"
    found = list(check_data(config))
    assert found
    assert {f.level for f in found} == {"ok"}
    assert len(runs_of(config)) >= 1
    text = (here / "mine.yaml").read_text()
    assert "# yours" in text
    assert "reward-distiller doctor mine.yaml" in text
    assert all(len(line) <= 130 for line in text.splitlines())


def test_what_is_missing_is_found_by_the_check(here):
    write_case("recorded", "mine.yaml")
    (here / "pairs.jsonl").unlink()
    assert [f.level for f in check_data(load_run("mine.yaml"))] == ["problem"]


def test_a_recorded_teacher_is_nobody():
    assert "teacher:" not in case_text("recorded").replace("# ", "")
    assert "api_key" not in case_text("recorded")


def test_no_file_is_written_over(here):
    write_case("openai", "mine.yaml")
    before = (here / "mine.yaml").read_bytes()
    with pytest.raises(FileError, match="is there already"):
        write_case("refine", "mine.yaml")
    assert (here / "mine.yaml").read_bytes() == before
    with pytest.raises(ConfigError, match="Use one of openai"):
        write_case("nothing", "other.yaml")


def test_the_command(here):
    listed = cli("init")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(CASES)
    done = cli("init", "refine", "-o", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert isinstance(load_run("mine.yaml"), Config)
    assert cli("init", "refine", "-o", "mine.yaml").returncode == 10
    assert cli("init", "refine").returncode == 2
