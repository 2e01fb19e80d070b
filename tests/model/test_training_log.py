"""The log of a training: rows that are there whatever happens, and trackers that are written for real."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from accelerate import PartialState

from reward_distiller.config import Training
from reward_distiller.errors import ConfigError
from reward_distiller.model.batches import Reading, encode_pairs
from reward_distiller.model.loading import build_network
from reward_distiller.model.objectives import Objective, bradley_terry
from reward_distiller.model.trainer import Trainer
from reward_distiller.model.training_log import TRACKERS, check_trackers, open_log

ROWS = [{"step": n, "loss": 1 / n, "accuracy": 0.5} for n in (1, 2, 3)]
CONFIG = {"seed": 0, "training": {"epochs": 1, "threads": None}, "candidates": []}
LAUNCH = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
WRITER = """
import sys
from pathlib import Path
from accelerate import PartialState
from reward_distiller.model.training_log import open_log
from reward_distiller.processes import processes
assert processes() == int(sys.argv[3])
PartialState(cpu=True)
with open_log(Path(sys.argv[1]) / "training.jsonl", sys.argv[2].split(), "run", {"seed": 0}) as log:
    log.keep(0)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1 / step})
"""


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} not installed")


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(folder, trackers, rows=ROWS, keep=0):
    PartialState(cpu=True)  # as a Trainer does
    with open_log(folder / "training.jsonl", trackers, "run", CONFIG) as log:
        log.keep(keep)
        for row in rows:
            log.write(row)


def events(folder):
    """(name, step, value) of every scalar in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(name, e.step, e.value) for name in accumulator.Tags()["scalars"] for e in accumulator.Scalars(name)]


def launched(folder, trackers, count):
    launch = LAUNCH if count > 1 else []
    script = folder / "writer.py"
    script.write_text(WRITER)
    environment = os.environ | {"TRACKIO_DIR": str(folder / "trackio")}  # read when trackio is imported
    command = [sys.executable, *launch, str(script), str(folder), trackers, str(count)]
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)


def test_a_row_is_in_the_file_before_the_next_step(tmp_path):
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0)
    settings = Training(device="cpu", threads=2, pairs_per_step=2)
    encoded, _ = encode_pairs(tiny.pairs(), chat, 500, Reading())
    path = tmp_path / "training.jsonl"
    with open_log(path, [], "run", {}) as log:
        for number, row in enumerate(
            Trainer(network, Objective(bradley_terry), settings).train(encoded, 0, log=log), 1
        ):
            written = rows_of(path)
            assert [r["step"] for r in written] == list(range(1, number + 1))
            assert written[-1] == row
    assert {"step", "loss", "pair_loss", "nll", "kl", "center", "accuracy", "grad_norm", "learning_rate"} <= set(row)
    assert [p.name for p in tmp_path.iterdir()] == ["training.jsonl"]


def test_rows_behind_a_checkpoint_are_dropped(tmp_path):
    path = tmp_path / "training.jsonl"
    write(tmp_path, [])
    whole = path.read_bytes()
    write(tmp_path, [], [], keep=2)
    assert rows_of(path) == ROWS[:2]
    write(tmp_path, [], ROWS[2:], keep=2)
    assert path.read_bytes() == whole
    write(tmp_path, [], ROWS[:1])  # from the start again
    assert rows_of(path) == ROWS[:1]


def test_what_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, [], [{"step": 1, "loss": float("nan")}])
    assert (tmp_path / "training.jsonl").read_text() == ""


@needs("tensorboard")
def test_tensorboard(tmp_path):
    write(tmp_path, ["tensorboard"])
    assert rows_of(tmp_path / "training.jsonl") == ROWS
    logged = events(tmp_path / "trackers" / "run")
    expected = [(name, row["step"], pytest.approx(row[name])) for name in ("loss", "accuracy") for row in ROWS]
    assert logged == expected
    assert "training.epochs: 1" in next((tmp_path / "trackers").rglob("hparams.yml")).read_text()


@needs("tensorboard")
def test_a_tracker_is_closed_when_a_training_breaks(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write(tmp_path, ["tensorboard"], (1 / 0 if row["step"] == 3 else row for row in ROWS))
    assert [step for name, step, _ in events(tmp_path / "trackers" / "run") if name == "loss"] == [1, 2]


@needs("trackio")
def test_trackio(tmp_path):
    """Its folder is its own environment variable's; nothing is served and nothing is asked of the network."""
    import sqlite3

    launched(tmp_path, "trackio", 1)
    with sqlite3.connect(tmp_path / "trackio" / "run.db") as database:
        logged = database.execute("select step, metrics from metrics order by step").fetchall()
    assert [(step, json.loads(metrics)["loss"]) for step, metrics in logged] == [(n, 1 / n) for n in (1, 2, 3)]
    assert len(rows_of(tmp_path / "training.jsonl")) == 3


@needs("tensorboard")
def test_of_two_processes_one_writes(tmp_path):
    launched(tmp_path, "tensorboard", 2)
    assert [row["step"] for row in rows_of(tmp_path / "training.jsonl")] == [1, 2, 3]
    assert len(list((tmp_path / "trackers" / "run").glob("events.*"))) == 1
    assert [step for _, step, _ in events(tmp_path / "trackers" / "run")] == [1, 2, 3]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_an_error_that_names_the_extra(tmp_path, monkeypatch, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *rest: None if n == name else real(n, *rest))
    check_trackers([])
    message = rf"training.log_to: {name} is not installed. pip install 'reward-distiller\[{name}\]'"
    with pytest.raises(ConfigError, match=message):
        check_trackers([name])
    with pytest.raises(ConfigError, match=message), open_log(tmp_path / "training.jsonl", [name], "run", {}):
        pass
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_wandb_is_not_installed_here():
    with pytest.raises(ConfigError, match=r"wandb is not installed.*\[wandb\]"):
        check_trackers(["wandb"])
