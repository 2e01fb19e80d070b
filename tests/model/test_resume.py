"""A training that is stopped anywhere and started again ends in the same bits as one that was left alone."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch

from reward_distiller.config import Training
from reward_distiller.errors import TrainingError
from reward_distiller.model.batches import encode_pairs
from reward_distiller.model.checkpoints import Checkpoints
from reward_distiller.model.loading import build_network
from reward_distiller.model.objectives import Objective, margin_regression
from reward_distiller.model.trainer import Trainer
from reward_distiller.model.training_log import open_log

CHILD = Path(__file__).with_name("training_child.py")


def start(folder, every=1, validation=True, key="key", **training):
    """A trainer with its checkpoints and log; call the result to get the steps one by one."""
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer)), chat, 0)
    encoded, _ = encode_pairs(tiny.pairs(10), chat, 500, tiny.FULL_READING)
    defaults = {"pairs_per_step": 4, "epochs": 2, "learning_rate": 1e-2, "threads": 2, "device": "cpu"}
    settings = Training(**defaults | {"checkpoint_every": every, "evaluate_every": 2} | training)
    trainer = Trainer(network, Objective(margin_regression, 0.8, 0.2), settings)

    def steps():
        folder.mkdir(exist_ok=True)
        with open_log(folder / "training.jsonl", [], "test", {}) as log:
            held_out = encoded[:3] if validation else []
            yield from trainer.train(encoded[3:], 0, held_out, Checkpoints(folder / "checkpoints", key), log)

    return network, steps


def same(one, other):
    states = [n.state_dict() for n in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_stopped_after_any_step(tmp_path):
    calm, steps = start(tmp_path / "calm")
    total = len(list(steps()))
    assert total >= 6
    for stop in range(1, total):
        for every in (1, 3):
            folder = tmp_path / f"{stop}-{every}"
            _, steps = start(folder, every)
            interrupted = steps()
            for _ in range(stop):
                next(interrupted)
            interrupted.close()
            network, steps = start(folder, every)
            assert len(list(steps())) == total - stop // every * every
            assert same(network, calm), (stop, every)
            assert (folder / "training.jsonl").read_bytes() == (tmp_path / "calm/training.jsonl").read_bytes()


def test_killed_twice_at_random(tmp_path):
    """SIGKILL to a process of its own, whatever it is doing then."""

    def command(folder):
        return [sys.executable, str(CHILD), str(folder), "checkpoint_every=1", "evaluate_every=3"]

    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    subprocess.run(command(calm), check=True, capture_output=True, timeout=300)
    rows = (calm / "training.jsonl").read_text().splitlines()
    rng = random.Random()
    for goal in sorted(rng.sample(range(1, len(rows) - 1), 2)):
        log = rough / "training.jsonl"
        with subprocess.Popen(command(rough), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and (not log.is_file() or log.read_text().count("\n") < goal):
                time.sleep(0.0005)
            time.sleep(rng.random() * 0.02)
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -9
    subprocess.run(command(rough), check=True, capture_output=True, timeout=300)
    for name in ("training.jsonl", "rewards.json"):
        assert (rough / name).read_bytes() == (calm / name).read_bytes(), name
    assert len(list((rough / "checkpoints").glob("step-*"))) == 1


def test_a_checkpoint_that_is_not_whole_is_not_there(tmp_path, monkeypatch):
    calm, steps = start(tmp_path / "calm")
    list(steps())
    _, steps = start(tmp_path / "full")
    interrupted = steps()
    next(interrupted)
    from reward_distiller.model import checkpoints

    real = checkpoints.save_file

    def full_disk(tensors, path):
        if path.name == checkpoints.OPTIMIZER:
            raise OSError(28, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    with pytest.raises(Exception, match="Make room or choose another place, then run again"):
        next(interrupted)
    monkeypatch.undo()
    assert sorted(p.name for p in (tmp_path / "full/checkpoints").iterdir()) == ["best", "step-00000001"]
    network, steps = start(tmp_path / "full")
    list(steps())
    assert same(network, calm)


def test_a_checkpoint_of_other_inputs_is_left_alone(tmp_path, capsys):
    _, steps = start(tmp_path)
    interrupted = steps()
    next(interrupted)
    interrupted.close()
    _, steps = start(tmp_path, key="other")
    assert next(steps())["step"] == 1
    assert "of other inputs" in capsys.readouterr().err


def test_the_best_weights_on_the_validation_prompts_are_kept(tmp_path):
    network, steps = start(tmp_path, epochs=12, evaluate_every=1)
    rows = list(steps())
    best = min(rows, key=lambda row: row["validation_pair_loss"])
    assert best["step"] < rows[-1]["step"]  # it overfits three prompts, or this test says nothing
    other, steps = start(tmp_path / "until", epochs=12, evaluate_every=1, validation=False)
    until = steps()
    for _ in range(best["step"]):
        next(until)
    assert same(network, other)


def test_a_diverging_run_names_step_pairs_and_the_last_good_checkpoint(tmp_path):
    network, steps = start(tmp_path)
    running = steps()
    next(running)
    next(running)
    with torch.no_grad():
        network.classifier.score.weight.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"step 3: loss nan.* last good checkpoint is .*step-00000002.* pairs: "):
        next(running)
    assert len(json.loads((tmp_path / "checkpoints/step-00000002/progress.json").read_text())["run_key"]) > 0


def test_a_broken_checkpoint_is_named(tmp_path):
    _, steps = start(tmp_path)
    interrupted = steps()
    next(interrupted)
    interrupted.close()
    (tmp_path / "checkpoints/step-00000001/optimizer.safetensors").write_bytes(b"not whole")
    _, steps = start(tmp_path)
    with pytest.raises(TrainingError, match=r"step-00000001 cannot be read .* Remove it"):
        next(steps())
