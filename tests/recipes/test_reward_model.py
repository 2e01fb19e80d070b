"""The whole recipe on a micro testbed: both scenarios, resume, kills, and what a user gets wrong."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro import cli, command, micro_config, run_bytes, write_config

from reward_distiller.config import parse_config
from reward_distiller.recipes.reward_model import run
from reward_distiller.testbed.parts import TestbedParts


def run_micro(folder: Path, **changes):
    config = parse_config(micro_config(folder, **changes))
    return run(config, TestbedParts(config.testbed, config.seed)), Path(config.output)


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory):
    return run_micro(tmp_path_factory.mktemp("unlabeled"))


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_unlabeled_scenario(unlabeled):
    results, folder = unlabeled
    pairs = rows(folder / "pairs.jsonl")
    by_id = {p["id"]: p for p in pairs}
    assert {p["source"] for p in pairs} == {"sampled", "refined"}
    for pair in pairs:
        assert pair["chosen_score"] > pair["rejected_score"]
        assert pair["teacher_response"]
        if pair["source"] == "refined":
            origin = by_id[pair["provenance"]["refined_from"]]
            assert pair["rejected"] == origin["rejected"]
            assert pair["rejected_score"] == origin["rejected_score"]  # the anchor
            assert pair["chosen_score"] - pair["rejected_score"] > 3  # tau_s, strictly
            assert pair["provenance"]["diagnosis"]
    assert set(results["testbed"]) == {"easy", "normal", "hard", "average"}
    card = (folder / "model" / "README.md").read_text()
    for part in ("refine: in", "Teacher:** teacher", "mean", "95% interval", "answers"):
        assert part in card


def test_every_step_adds_up(unlabeled):
    _, folder = unlabeled
    balances = json.loads((folder / "balance.json").read_text())
    fates = ("kept", "tied", "disagreed", "filtered", "dropped", "quarantined", "failed")
    assert [b["step"] for b in balances] == [
        "load prompts",
        "candidates",
        "draw",
        "annotate",
        "reference",
        "refine",
        "filter edits",
        "score",
        "filter margins",
    ]
    for balance in balances:
        assert balance["in"] == sum(balance[fate] for fate in fates)


def test_labeled_scenario_and_agreement(tmp_path, unlabeled):
    """Pairs of the first run as labels; a third of them turned round, which the teacher must notice."""
    _, folder = unlabeled
    labeled = [p for p in rows(folder / "pairs.jsonl") if p["source"] == "sampled"]
    keep = ("prompt", "chosen", "rejected")
    turned = [
        {k: p[{"chosen": "rejected", "rejected": "chosen"}.get(k, k)] if i % 3 == 0 else p[k] for k in keep}
        for i, p in enumerate(labeled)
    ]
    source = tmp_path / "labeled.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in turned))
    changes = {"scenario": "labeled", "prompts": None, "candidates": [], "pairs": {"path": str(source)}}
    _, output = run_micro(tmp_path, **changes)
    agree = next(b for b in json.loads((output / "balance.json").read_text()) if b["step"] == "agree")
    assert agree["in"] == len(turned)
    assert agree["disagreed"] > 0.15 * len(turned)
    assert agree["kept"] > 0.4 * len(turned)
    kept = [p for p in rows(output / "pairs.jsonl") if p["source"] == "labeled"]
    assert {p["chosen"][0]["content"] for p in kept} <= {
        row["chosen"][0]["content"] for row in turned if isinstance(row["chosen"], list)
    }


def test_full_objective_with_a_kl_teacher(tmp_path):
    own = {"alpha": 0.2, "beta": 0.2, "kl_teacher": "testbed"}
    _, folder = run_micro(tmp_path, rm_distiller=own)
    log = rows(folder / "training.jsonl")
    assert all(row["kl"] > 0 and row["nll"] > 0 for row in log)
    row = log[0]
    expected = 0.6 * row["pair_loss"] + 0.2 * row["nll"] + 0.2 * row["kl"] + 0.01 * row["center"]
    assert row["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_kl_from_a_store_is_that_of_the_teacher_at_hand(tmp_path):
    own = {"alpha": 0.2, "beta": 0.2}
    _, folder = run_micro(tmp_path, rm_distiller={**own, "kl_teacher": "testbed"})
    online = rows(folder / "training.jsonl")
    parts = TestbedParts(parse_config(micro_config(tmp_path)).testbed, 0)
    store = tmp_path / "teacher.safetensors"
    made = cli(
        *("prepare", "distributions", "--pairs", folder / "pairs.jsonl", "--top-k", 10000, "--output", store),
        *("--teacher", parts.kl_teacher(), "--student", parts.student(), "--device", "cpu"),
    )
    assert made.returncode == 0, made.stderr
    _, folder = run_micro(tmp_path, rm_distiller={**own, "kl_store": str(store)})
    stored = rows(folder / "training.jsonl")
    assert [r["kl"] for r in stored] == pytest.approx([r["kl"] for r in online], rel=1e-3)
    assert [r["loss"] for r in stored] == pytest.approx([r["loss"] for r in online], rel=1e-3)


def test_pairwise_scoring_and_no_refinement(tmp_path):
    _, folder = run_micro(tmp_path, rm_distiller={"scoring": "pairwise", "beta": 0.0, "tau_s": 1.0})
    assert any(p["source"] == "refined" for p in rows(folder / "pairs.jsonl"))
    _, folder = run_micro(tmp_path, rm_distiller={"refine": False, "alpha": 0.0, "beta": 0.0})
    pairs = rows(folder / "pairs.jsonl")
    assert {p["source"] for p in pairs} == {"sampled"}
    assert all(p["teacher_response"] is None for p in pairs)  # nobody asked for it, so nobody paid for it


def test_running_again_buys_nothing_and_changes_nothing(tmp_path):
    _, folder = run_micro(tmp_path)
    before = run_bytes(folder)
    attempts = _count(folder, "SELECT count(*) FROM attempts")
    stamp = (folder / "model" / "model.safetensors").stat().st_mtime_ns
    run_micro(tmp_path)
    assert run_bytes(folder) == before
    assert _count(folder, "SELECT count(*) FROM attempts") == attempts
    assert (folder / "model" / "model.safetensors").stat().st_mtime_ns == stamp
    # A changed threshold costs no call either.
    run_micro(tmp_path, rm_distiller={"alpha": 0.2, "beta": 0.0, "tau_s": 5.0})
    assert _count(folder, "SELECT count(*) FROM attempts") == attempts


def _count(folder, query):
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        return db.execute(query).fetchone()[0]


def test_killed_anywhere_and_run_again_ends_in_the_same_bytes(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        # The paths must be equal for the bytes to be: each runs inside its own folder.
        write_config(folder, output="run", testbed={"pretrain_steps": 5, "pretrain_threads": 1, "cache": "testbed"})
    start = time.monotonic()
    done = cli("run", "config.yaml", cwd=whole)
    assert done.returncode == 0, done.stderr
    duration = time.monotonic() - start
    rng = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(command("run", "config.yaml"), cwd=killed, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.3, 1.0) * duration)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    done = cli("run", "config.yaml", cwd=killed)
    assert done.returncode == 0, done.stderr
    assert run_bytes(killed / "run") == run_bytes(whole / "run")
    twice = "SELECT count(*) FROM (SELECT key FROM attempts WHERE outcome='committed' GROUP BY key HAVING count(*)>1)"
    assert _count(killed / "run", twice) == 0


def test_construct_then_train_on_the_pairs(tmp_path):
    path = write_config(tmp_path)
    made = cli("construct", path)
    assert made.returncode == 0, made.stderr
    pairs = tmp_path / "run" / "pairs.jsonl"
    cache = f"testbed={{pretrain_steps: 5, pretrain_threads: 1, cache: {tmp_path / 'testbed'}}}"
    for method in ("bradley_terry", "rm_distiller"):
        trained = cli(
            "train",
            *("--pairs", pairs, "--student", "testbed", "--output", tmp_path / method, "--method", method),
            *(cache, "evaluation.held_out=0.3", "training.max_length=256"),
        )
        assert trained.returncode == 0, trained.stderr
        assert "held-out prompts, accuracy" in trained.stdout
        assert "held-out prompts, longer response" in trained.stdout


def test_two_processes_train_one_model_and_run_is_for_one(tmp_path, unlabeled):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    launch += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "-m", "reward_distiller"]
    cache = f"testbed={{pretrain_steps: 5, pretrain_threads: 1, cache: {unlabeled[1].parent / 'testbed'}}}"
    common = ["train", "--pairs", str(unlabeled[1] / "pairs.jsonl"), "--student", "testbed", cache]
    common += ["evaluation.held_out=0.3", "training.max_length=256", "training.device=cpu", "training.threads=1"]
    done = subprocess.run([*launch, *common, "--output", str(tmp_path / "two")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("held-out prompts, accuracy") == 1
    assert cli(*common, "--output", tmp_path / "one").returncode == 0
    one, two = (rows(tmp_path / name / "training.jsonl") for name in ("one", "two"))
    assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], rel=1e-4)
    refused = subprocess.run([*launch, "run", str(write_config(tmp_path))], capture_output=True, text=True)
    assert refused.returncode != 0
    assert "First reward-distiller construct" in refused.stderr


def test_bradley_terry_trains_on_pairs_without_scores(tmp_path, unlabeled):
    source = tmp_path / "mine.jsonl"
    source.write_text(
        "".join(
            json.dumps({k: p[k] for k in ("prompt", "chosen", "rejected")}) + "\n"
            for p in rows(unlabeled[1] / "pairs.jsonl")
        )
    )
    cache = f"testbed={{pretrain_steps: 5, pretrain_threads: 1, cache: {tmp_path / 'testbed'}}}"
    common = ("--pairs", source, "--student", "testbed", "--output", tmp_path / "out", cache)
    assert cli("train", *common, "--method", "bradley_terry").returncode == 0
    refused = cli("train", *common, "--method", "rm_distiller")
    assert refused.returncode == 3
    assert "row 1" in refused.stderr
    assert "chosen_score" in refused.stderr


def test_dry_run_makes_no_call_and_writes_nothing(tmp_path):
    path = write_config(tmp_path)
    shown = cli("run", path, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "candidates" in shown.stdout
    assert "60" in shown.stdout
    assert not (tmp_path / "run").exists()


def test_score_command(tmp_path, unlabeled):
    _, folder = unlabeled
    source, target = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    prompt = [{"role": "user", "content": "name two fruits but not mango ."}]
    source.write_text(json.dumps({"prompt": prompt, "responses": ["plum , fig .", "boots , fig ."], "mine": 7}) + "\n")
    done = cli("score", folder / "model", "--input", source, "--output", target)
    assert done.returncode == 0, done.stderr
    (row,) = rows(target)
    assert row["mine"] == 7
    assert len(row["rewards"]) == 2
    assert row["rewards"][0] != row["rewards"][1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"responses": ["a"]}, "field 'prompt': missing"),
        ({"prompt": "a"}, "field 'responses'"),
        ({"prompt": "a", "responses": "b"}, "field 'responses'"),
        ({"prompt": "a", "responses": ["x " * 2000]}, "over max_length"),
        ({"prompt": [{"role": "robot", "content": "a"}], "responses": ["b"]}, "not a message"),
    ],
)
def test_score_refuses_bad_rows_and_writes_nothing(tmp_path, unlabeled, row, said):
    source, target = tmp_path / "rows.jsonl", tmp_path / "scored.jsonl"
    source.write_text(json.dumps({"prompt": "a", "responses": ["b"]}) + "\n" + json.dumps(row) + "\n")
    done = cli("score", unlabeled[1] / "model", "--input", source, "--output", target)
    assert done.returncode == 3
    assert "row 2" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("overrides", "code", "said"),
    [
        (["methd=bradley_terry"], 2, "methd: unknown key"),
        (["training.epochs=many"], 2, "training.epochs"),
        (["training.epochs=0.5"], 2, "training.epochs"),
        (["method=magic"], 2, "'magic' is none of"),
        (["rm_distiller.beta=0.2"], 2, "beta > 0 needs kl_teacher"),
        (["rm_distiller.alpha=0.7", "rm_distiller.beta=0.4"], 2, "alpha + beta"),
        (["teacher.api_key_env=NO_SUCH_KEY_HERE"], 2, "NO_SUCH_KEY_HERE is not set"),
        (["prompts={path: missing.jsonl}"], 3, "there is no such file"),
        (["student.model=nowhere/at-all"], 7, "nowhere/at-all"),
        (["annotation.templates=nowhere"], 2, "there is no folder"),
        (["candidates.9.model=x"], 2, "items 0 to 3"),
    ],
)
def test_errors_come_before_any_call(tmp_path, overrides, code, said):
    path = write_config(tmp_path)
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    done = cli("run", path, *overrides, env=environment)
    assert said in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    ledger = tmp_path / "run" / "ledger.sqlite"
    assert not ledger.exists() or _count(tmp_path / "run", "SELECT count(*) FROM attempts") == 0


def test_two_runs_in_one_folder_do_not_meet(tmp_path):
    from reward_distiller.files import locked

    path = write_config(tmp_path)
    with locked(tmp_path / "run" / ".lock"):
        done = cli("run", path)
    assert done.returncode == 2
    assert "held by another run" in done.stderr
