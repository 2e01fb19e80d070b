"""The quarantine of a run: listed, and read again from the ledger without a call."""

import sqlite3

import pytest
from micro import cli, run_bytes, write_config


def attempts(folder) -> int:
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        return db.execute("SELECT count(*) FROM attempts").fetchone()[0]


@pytest.fixture(scope="module")
def constructed(tmp_path_factory):
    """A teacher that is asked once a question and garbles a third of its answers."""
    folder = tmp_path_factory.mktemp("quarantine")
    teacher = {"model": "teacher", "base_url": "testbed", "max_asks": 1}
    config = write_config(folder, teacher=teacher, testbed={"garble": 0.33, "cache": str(folder / "testbed")})
    done = cli("construct", config)
    assert done.returncode == 0, done.stderr
    return config, folder / "run"


def test_what_could_not_be_read_is_listed_by_step_and_reason(constructed):
    _, folder = constructed
    listed = cli("quarantine", "list", folder)
    assert listed.returncode == 0, listed.stderr
    records = len((folder / "quarantine.jsonl").read_text().splitlines())
    assert records > 10
    assert listed.stdout.endswith(f"{records} records without a usable answer\n")
    assert "annotate, teacher: not two scores" in listed.stdout


def test_a_folder_without_a_quarantine_is_named(tmp_path):
    listed = cli("quarantine", "list", tmp_path)
    assert listed.returncode == 2
    assert "holds no quarantine.jsonl" in listed.stderr


def test_reading_again_makes_no_call_and_gives_the_same_from_the_same_answers(constructed):
    config, folder = constructed
    before, count = run_bytes(folder), attempts(folder)
    done = cli("quarantine", "reparse", config)
    assert done.returncode == 0, done.stderr
    assert attempts(folder) == count
    after = run_bytes(folder)
    assert {name: after[name] for name in ("pairs.jsonl", "balance.json", "quarantine.jsonl")} == {
        name: before[name] for name in ("pairs.jsonl", "balance.json", "quarantine.jsonl")
    }


def test_a_threshold_of_today_counts_and_what_was_never_asked_is_left_out(constructed):
    config, folder = constructed
    count = attempts(folder)
    done = cli("quarantine", "reparse", config, "rm_distiller.tau_s=0.0", "prompts.testbed.count=80")
    assert done.returncode == 0, done.stderr
    assert attempts(folder) == count
