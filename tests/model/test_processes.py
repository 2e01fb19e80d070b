"""How a step is cut changes nothing: micro-batches, and data-parallel processes with whole and with sharded weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from reward_distiller.model.batches import encode_pairs, micro_batches, plan_steps, share

CHILD = Path(__file__).with_name("training_child.py")
LAUNCH = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]


def train(folder, *options, launch=()):
    folder.mkdir()
    command = [sys.executable, *launch, str(CHILD), str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    log = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    return log, json.loads((folder / "rewards.json").read_text())["rewards"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole") / "run", "evaluate_every=100")


@pytest.mark.parametrize(
    ("options", "launch"),
    [
        (["tokens_per_batch=450"], ()),
        (["tokens_per_batch=250"], ()),
        ([], LAUNCH),
        (["tokens_per_batch=250"], LAUNCH),
        (["fsdp=1"], LAUNCH),
        (["layout=padded"], ()),
    ],
    ids=["2 micro-batches", "4 micro-batches", "2 processes", "2 processes, cut", "2 processes, FSDP2", "padded rows"],
)
def test_the_loss_curve_and_the_rewards_stay(whole, tmp_path, options, launch):
    log, rewards = train(tmp_path / "run", "evaluate_every=100", *options, launch=launch)
    for row, expected in zip(log, whole[0], strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert rewards == pytest.approx(whole[1], abs=1e-3)


def steps_of_child(pairs_per_step=8):
    """The steps that the child trains on."""
    chat = tiny.chat(pad_token="<pad>")
    encoded, _ = encode_pairs(tiny.pairs(16), chat, 500, tiny.FULL_READING)
    return plan_steps(encoded[4:], pairs_per_step, 3, 0)


def test_the_budgets_above_cut_a_step_in_two_and_four():
    step = steps_of_child()[1]
    assert [len(micro_batches(step, budget)) for budget in (16384, 450, 250)] == [1, 2, 4]


def test_processes_share_a_step_without_loss_and_evenly():
    step = steps_of_child(100)[0]
    shares = share(step, 3)
    shared = [g for part in shares for g in part]
    assert sorted(i for g in shared for i in tiny.pair_ids(g)) == sorted(i for g in step for i in tiny.pair_ids(g))
    work = [sum(g.tokens() for g in part) for part in shares]
    assert max(work) - min(work) <= max(g.tokens() for g in step)
    assert share(step, 3) == shares


@pytest.mark.parametrize("layout", ["trees", "padded"])
def test_micro_batches_hold_every_pair_and_teacher_response_once(layout):
    step = steps_of_child(100)[0]
    for budget in (8, 300, 10**6):
        batches = micro_batches(step, budget, layout)
        flat = [g for batch in batches for g in batch]
        assert sorted(i for g in flat for i in tiny.pair_ids(g)) == sorted(i for g in step for i in tiny.pair_ids(g))
        assert sum(len(g.pairs) for g in flat) == sum(len(g.pairs) for g in step)
        assert sum(g.supervised.total() for g in flat) == sum(g.supervised.total() for g in step)
