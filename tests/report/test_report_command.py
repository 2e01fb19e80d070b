"""`reward-distiller report`, and the report that a run ends with; and what becomes of a run that can have none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import run_folders
import yaml
from typer.testing import CliRunner

from reward_distiller.cli import report as command
from reward_distiller.cli.entry import entry
from reward_distiller.cli.main import app
from reward_distiller.errors import MissingExtra

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from micro import micro_config

SECTIONS = ("The answer", "From prompts to pairs", "What the teacher did", "How it was trained", "Bias audit")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the command line with a report at its end, and what it said."""
    folder = tmp_path_factory.mktemp("made")
    evaluation = {"testbed_prompts": 20, "held_out": 0.3}
    (folder / "config.yaml").write_text(yaml.safe_dump(micro_config(folder, evaluation=evaluation)))
    done = CliRunner().invoke(app, ["run", str(folder / "config.yaml")], catch_exceptions=False)
    assert done.exit_code == 0
    return folder / "run", done.output


def test_a_run_ends_with_a_report(made: tuple[Path, str]) -> None:
    folder, said = made
    assert f"report: {folder / 'report.html'}" in said
    text = (folder / "report.html").read_text("utf-8")
    assert all(f">{title}</h2>" in text for title in SECTIONS)
    assert "What moves the reward: testbed" in text
    assert "Calibration of the margin: held out" in text
    assert str(folder.parent) not in text.partition("The config as it was resolved")[0]


def test_the_command_makes_the_same_bytes(made: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = made
    done = CliRunner().invoke(app, ["report", str(folder), "-o", str(tmp_path / "mine.html")])
    assert done.exit_code == 0, done.output
    assert f"report: {tmp_path / 'mine.html'}" in done.output
    assert (tmp_path / "mine.html").read_bytes() == (folder / "report.html").read_bytes()


def test_what_cannot_be_reported_ends_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["reward-distiller", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        entry()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_run_without_matplotlib_is_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folders.policy(tmp_path)

    def missing() -> None:
        raise MissingExtra("matplotlib", "plot")

    monkeypatch.setattr("reward_distiller.report.page.check_plots", missing)
    command.report_at_end(folder)
    said = capsys.readouterr().err.strip()
    assert said == "no report.html: this needs the package 'matplotlib': pip install 'reward-distiller[plot]'"
    assert CliRunner().invoke(app, ["report", str(folder)]).exit_code != 0


def test_whatever_stops_a_report_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_folders.reward_model(tmp_path)
    (folder / "pairs.jsonl").write_text("{\n")
    command.report_at_end(folder)
    assert capsys.readouterr().err.strip().startswith(f"no report.html: {folder / 'pairs.jsonl'}, row 1: not valid")

    def broken(folder: Path) -> Path:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(command, "write_report", broken)
    command.report_at_end(folder)
    assert capsys.readouterr().err.strip() == "no report.html: two lines"


def test_a_run_that_another_command_started_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWARD_DISTILLER_PARENT_PIPE", "1")
    command.report_at_end(run_folders.policy(tmp_path))
    assert not (tmp_path / "report.html").exists()
