"""Comparisons: what a run is known by, what is shared and resumed, what fails and how, and the table.

One real comparison of two arms and two seeds is made on a micro testbed; most tests look at it or add to its store.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from micro import cli, command, micro_config

from reward_distiller.config import Comparison, load_comparison, load_config, parse_config
from reward_distiller.errors import ConfigError, DataError, MissingExtra, RewardDistillerError, RunFailed
from reward_distiller.files import locked
from reward_distiller.recipes import compare as recipe
from reward_distiller.recipes.compare import compare, missing, planned
from reward_distiller.recipes.comparison_curves import training_curves
from reward_distiller.recipes.comparison_figures import (
    compared_metric,
    panels,
    run_entry,
    shown_metrics,
    with_pairs,
    with_summaries,
)
from reward_distiller.recipes.comparison_table import table
from reward_distiller.recipes.side_by_side import Job, run_side_by_side
from reward_distiller.recipes.store import Store
from reward_distiller.testbed.parts import TestbedParts

ARMS = {"BT | Classifier": ["method=bradley_terry"], "RM-Distiller": []}
WORLD = {"pretrain_steps": 5, "pretrain_threads": 1, "cache": "testbed", "garble": 0.05}


def write(folder: Path, **changes: Any) -> Path:
    """A comparison's file and its base in `folder`, all of whose paths are relative to it."""
    base = micro_config(folder, output="unused", testbed=WORLD, prompts={"testbed": {"count": 30}})
    (folder / "base.yaml").write_text(yaml.safe_dump(base))
    settings = {
        "recipe": "compare",
        "output": "out",
        "base": "base.yaml",
        "seeds": [0, 1],
        "processes": 2,
        "arms": ARMS,
    }
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump({**settings, **changes}, sort_keys=False))
    return path


def parts_of(config: Any) -> TestbedParts:
    return TestbedParts(config.testbed, config.seed)


def read(folder: Path, output: str = "out") -> dict[str, Any]:
    """results.json without times."""
    results = json.loads((folder / output / "results.json").read_text())
    for arm in results["arms"].values():
        for run in arm["runs"].values():
            run.pop("train_seconds")
    return results


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    done = cli("compare", write(folder).name, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("started") == 4
    assert (folder / "out" / "table.md").read_text() in done.stdout
    return folder


@pytest.fixture
def inside(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the folder of the finished comparison, where no run may start."""

    def run(jobs: list[Job], processes: int) -> None:
        raise AssertionError(f"{[job.title for job in jobs]} would run")

    monkeypatch.chdir(made)
    monkeypatch.setattr(recipe, "run_side_by_side", run)
    return made


# -- the finished comparison ------------------------------------------------------------------------


def test_two_arms_and_two_seeds(made: Path) -> None:
    results = read(made)
    assert list(results["arms"]) == list(ARMS)
    first, second = results["arms"].values()
    assert (first["method"], second["method"]) == ("bradley_terry", "rm_distiller")
    for arm in (first, second):
        assert list(arm["runs"]) == ["0", "1"]
        for run in arm["runs"].values():
            assert run["folder"] == f"out/store/{run['key']}"
            assert (made / run["folder"] / "model" / "model.safetensors").is_file()
        values = [run["figures"]["testbed.average"]["value"] for run in arm["runs"].values()]
        assert arm["summary"]["testbed.average"]["mean"] == pytest.approx(sum(values) / 2, abs=1e-3)
        assert arm["summary"]["testbed.average"]["n_seeds"] == 2
    assert first["difference"] == {}
    means = [arm["summary"]["testbed.average"]["mean"] for arm in (first, second)]
    assert second["difference"]["testbed.average"]["mean"] == pytest.approx(means[1] - means[0], abs=1e-3)
    assert second["runs"]["0"]["pairs_by_source"]["refined"] > 0
    assert (made / "out" / "plot.svg").read_text().startswith("<?xml")
    assert len(list((made / "out" / "store").glob("*.yaml"))) == 4


def test_again_and_in_another_table_nothing_runs(inside: Path) -> None:
    before = read(inside)
    compare(load_comparison("compare.yaml"), parts_of)
    assert read(inside) == before
    others = {
        "mine": ["rm_distiller.alpha=0.2"],
        "BT, whatever alpha": ["method=bradley_terry", "rm_distiller.alpha=0"],
    }
    own = [f"arms={json.dumps(others)}", "output=other", "store=out/store", "seeds=[1]"]
    results = compare(load_comparison("compare.yaml", own), parts_of)
    keys = {name: arm["runs"]["1"]["key"] for name, arm in results["arms"].items()}
    assert keys["mine"] == before["arms"]["RM-Distiller"]["runs"]["1"]["key"]
    assert keys["BT, whatever alpha"] == before["arms"]["BT | Classifier"]["runs"]["1"]["key"]


def test_dry_run_says_what_is_there(made: Path) -> None:
    shown = cli("compare", "compare.yaml", "seeds=[1,2]", "--dry-run", cwd=made)
    assert shown.returncode == 0, shown.stderr
    lines = [line.split("  ") for line in shown.stdout.splitlines()[1:]]
    assert [("done" in line, "to do" in line) for line in lines] == [(True, False)] * 2 + [(False, True)] * 2
    assert not list(made.glob("out/store/*.yaml.*"))


def test_a_damaged_run_is_to_do_again(inside: Path, tmp_path: Path) -> None:
    copied = tmp_path / "out"
    shutil.copytree(inside / "out", copied)
    comparison = load_comparison("compare.yaml", [f"output={copied}"])
    store = Store(comparison.store_path)
    runs = planned(comparison, store)
    assert missing(runs, store) == []
    (store.place(runs[0].key) / "results.json").write_text('{"testbed": ')
    other = store.place(runs[1].key) / "config.yaml"
    other.write_text(other.read_text().replace("tau_s: 3.0", "tau_s: 4.0"))
    (store.place(runs[2].key) / "config.yaml").unlink()
    with open(store.place(runs[3].key) / "config.yaml", "a") as of_an_older_package:
        of_an_older_package.write("a_method_that_is_gone: {alpha: 0.5}\n")
    assert missing(runs, store) == runs[:3]


def test_a_failing_arm_leaves_the_others_as_they_are(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {"RM-Distiller": [], "too short": ["training.max_length=8"]}
    own = (f"arms={json.dumps(arms)}", "output=failing", "store=out/store", "seeds=[0]")
    failed = cli("compare", "compare.yaml", *own, cwd=made)
    assert failed.returncode == 8
    assert "too short, seed 0: ended with exit code 8. The last lines of out/store/" in failed.stderr
    log = next(p for p in (made / "out" / "store").glob("*.log") if "error: " in p.read_text())
    assert log.read_text().splitlines()[-1] in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (made / "failing" / "results.json").exists()
    monkeypatch.chdir(made)
    comparison = load_comparison("compare.yaml", list(own))
    store = Store(comparison.store_path)
    assert [run.arm for run in missing(planned(comparison, store), store)] == ["too short"]


@pytest.mark.slow
def test_killed_and_run_again_ends_in_the_same_results(made: Path, tmp_path: Path) -> None:
    write(tmp_path)
    parent = subprocess.Popen(command("compare", "compare.yaml"), cwd=tmp_path, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.glob("out/store/*/pairs.jsonl"))) >= 1)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert children
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(alive(int(pid)) for pid in children))
    again = cli("compare", "compare.yaml", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert read(tmp_path) == read(made)
    assert (tmp_path / "out" / "plot.svg").read_bytes() == (made / "out" / "plot.svg").read_bytes()


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


# -- what a run is known by -------------------------------------------------------------------------


def keys(folder: Path, arms: dict[str, list[str]], **changes: Any) -> list[str]:
    comparison = load_comparison(write(folder, arms=arms, seeds=[0], **changes))
    return [run.key for run in planned(comparison, Store(comparison.store_path))]


def test_a_run_is_known_by_what_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {
        "as it is": [],
        "another place": ["testbed.cache=elsewhere"],
        "said again": ["method=rm_distiller", "training.epochs=1"],
    }
    assert len(set(keys(tmp_path, same))) == 1
    assert keys(tmp_path, {"a": []}) == keys(tmp_path, {"b": []}, output="other", changes=["ledger=calls.sqlite"])
    other = {"a": [], "b": ["training.epochs=2"], "c": ["teacher.model=x"], "d": ["evaluation.testbed_prompts=5"]}
    assert len(set(keys(tmp_path, other))) == len(other)
    monkeypatch.chdir(tmp_path)
    before = keys(tmp_path, {"a": []})
    (tmp_path / "testbed").mkdir()  # the cache of the testbed's student is not the student named `testbed`
    assert keys(tmp_path, {"a": []}) == before
    bt = "method=bradley_terry"
    assert (
        len(set(keys(tmp_path, {"a": [bt], "b": [bt, "rm_distiller.alpha=0.5"], "c": [bt, "training.epochs=2"]}))) == 2
    )


def test_a_changed_file_is_another_run(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    arms = {"a": [f"prompts={{path: {prompts}}}"]}
    prompts.write_text('{"prompt": "a"}\n')
    before = keys(tmp_path, arms)
    assert keys(tmp_path, arms) == before
    prompts.write_text('{"prompt": "b"}\n')
    assert keys(tmp_path, arms) != before


def test_runs_have_their_seed_their_place_and_one_ledger(tmp_path: Path) -> None:
    comparison = load_comparison(write(tmp_path, seeds=[3, 4], store="runs/store"))
    runs = planned(comparison, Store(comparison.store_path))
    assert [(run.arm, run.seed) for run in runs] == [(arm, seed) for seed in (3, 4) for arm in ARMS]
    assert all(run.config.seed == run.seed and run.config.output == f"runs/store/{run.key}" for run in runs)
    assert {run.config.ledger for run in runs} == {"runs/store/ledger.sqlite"}
    comparison = load_comparison(write(tmp_path, changes=["ledger=mine.sqlite"]))
    assert {run.config.ledger for run in planned(comparison, Store(comparison.store_path))} == {"mine.sqlite"}


def test_a_base_may_be_written_in_place_and_what_depends_on_it_is_filled_in_last(tmp_path: Path) -> None:
    base = micro_config(tmp_path, rm_distiller={})
    arms = {"kl": ["rm_distiller.kl_teacher=testbed"], "none": []}
    comparison = Comparison.model_validate({"output": "out", "base": base, "arms": arms})
    kl, none = planned(comparison, Store(comparison.store_path))
    assert (kl.config.rm_distiller.beta, none.config.rm_distiller.beta) == (0.2, 0.0)
    assert comparison.base == base


def test_as_many_at_once_as_there_are_cores_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    def processes(**training: Any) -> int:
        return recipe._processes([parse_config(micro_config(tmp_path, training=t)) for t in ({"threads": 1}, training)])

    assert (processes(threads=1), processes(threads=3), processes(threads=16), processes()) == (8, 2, 1, 1)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert (processes(threads=1), processes(threads=1, device="cpu")) == (1, 1)


# -- what is wrong is said before anything runs -----------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arm": {}}, "arm: unknown key. Did you mean arms?"),
        ({"arms": {}}, "arms: Dictionary should have at least 1 item"),
        ({"arms": {"": []}}, "'' is no name for an arm"),
        ({"arms": {"a\nb": []}}, "is no name for an arm"),
        ({"arms": {"a": "method=lsam"}}, "arms.a: Input should be a valid list"),
        ({"seeds": []}, "seeds: List should have at least 1 item"),
        ({"seeds": [1, 1]}, "a seed stands there twice"),
        ({"processes": 0}, "processes"),
        ({"base": "none.yaml"}, "none.yaml: there is no such config file"),
        ({"changes": ["training.epoch=2"]}, "training.epoch: unknown key"),
        ({"changes": ["seed=2"]}, "changes: seed is set for the whole comparison"),
        ({"arms": {"good": [], "bad": ["training.epoch=2"]}}, "arm 'bad': training.epoch: unknown key"),
        ({"arms": {"good": [], "bad": ["method=unheard_of"]}}, "arm 'bad': method: 'unheard_of' is none of"),
        ({"arms": {"good": [], "bad": ["candidates.9.model=x"]}}, "arm 'bad': override 'candidates.9.model=x'"),
        ({"arms": {"good": [], "bad": ["seed=2"]}}, "arm 'bad': seed is set for the whole comparison"),
        ({"arms": {"good": [], "bad": ["output=x"]}}, "arm 'bad': output is set for the whole comparison"),
        ({"arms": {"good": [], "bad": ["prompts={path: none.jsonl}"]}}, "arm 'bad': none.jsonl: there is no such file"),
    ],
)
def test_errors_name_the_arm_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "run_side_by_side", lambda jobs, processes: pytest.fail("a run has started"))
    with pytest.raises((ConfigError, DataError), match=re.escape(said)):
        compare(load_comparison(write(tmp_path, **changes)), parts_of)
    assert not (tmp_path / "out" / "results.json").exists()
    assert not (tmp_path / "out" / "store").exists()


def test_an_arm_that_stands_there_twice_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text("output: out\nbase: base.yaml\narms:\n  a: []\n  a: [method=bradley_terry]\n")
    with pytest.raises(ConfigError, match="'a' stands there twice"):
        load_comparison(path)


def test_a_run_s_config_and_a_comparison_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(ConfigError, match=r"a comparison.* Use reward-distiller compare"):
        load_config(path)
    with pytest.raises(ConfigError, match="one run's config"):
        load_comparison(tmp_path / "base.yaml")


def test_a_figure_that_no_run_has_is_an_error(inside: Path) -> None:
    for key, value in (("columns", "[testbed.eazy]"), ("compare_on", "held_out.accuracy")):
        with pytest.raises(ConfigError, match=rf"{key}: no run has .*There are: testbed\.easy, "):
            compare(load_comparison("compare.yaml", [f"{key}={value}"]), parts_of)
    results = compare(
        load_comparison("compare.yaml", ["columns=[testbed.hard]", "output=hard", "store=out/store"]), parts_of
    )
    assert results["columns"] == ["testbed.hard"]


def test_without_matplotlib_all_but_the_plot_is_there(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def check_plots() -> None:
        raise MissingExtra("matplotlib", "plot")

    monkeypatch.setattr(recipe, "check_plots", check_plots)
    compare(load_comparison("compare.yaml", ["output=plain", "store=out/store"]), parts_of)
    assert sorted(p.name for p in Path("plain").iterdir() if p.name != ".lock") == ["results.json", "table.md"]
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("plot.svg will be left out: ")
    assert last.startswith("no plot.svg: ")
    assert "reward-distiller[plot]" in first
    assert "reward-distiller[plot]" in last


# -- side by side -----------------------------------------------------------------------------------


def test_what_another_command_makes_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "key"
    job = Job("a run", folder, ("no", "such", "command"), lambda: (folder / "results.json").exists())
    entered = threading.Event()

    def other() -> None:
        with locked(tmp_path / "key.lock", RewardDistillerError):
            entered.set()
            time.sleep(0.3)
            (folder / "results.json").write_text("{}")

    folder.mkdir()
    thread = threading.Thread(target=other)
    thread.start()
    entered.wait()
    run_side_by_side([job], 1)
    thread.join()
    assert not job.beside(".log").exists()


def test_a_job_waits_for_those_that_it_stands_on_and_for_no_others(tmp_path: Path) -> None:
    looked: list[str] = []

    def job(name: str, *after: str) -> Job:
        def is_done() -> bool:
            looked.append(name)
            return True

        return Job(name, tmp_path / name, ("no", "such", "command"), is_done, frozenset(tmp_path / a for a in after))

    run_side_by_side([job("c", "b", "a"), job("b", "a"), job("d"), job("a", "made before")], 2)
    assert looked == ["d", "a", "b", "c"]


def test_what_stands_on_a_job_that_failed_is_not_started(tmp_path: Path) -> None:
    failing = Job("a run", tmp_path / "a", ("no", "such", "command"), lambda: False)
    above = Job("another", tmp_path / "b", (), lambda: pytest.fail("it has started"), frozenset([tmp_path / "a"]))
    with pytest.raises(RunFailed, match="a run"):
        run_side_by_side([above, failing], 2)


# -- figures and the table --------------------------------------------------------------------------


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 5, "high": value + 5, "n": 40}


def run_of(accuracy: float, seconds: float | None = None, longer: float = 70.0) -> dict[str, Any]:
    held_out = {"accuracy": figure(accuracy), "longer_response": figure(longer), "too_long": 3}
    cost = [
        {"step": "annotate", "model": "t", "calls": 1200, "input_tokens": 900_000, "output_tokens": 100_000},
        {"step": "evaluate critiques", "model": "t", "calls": 40, "input_tokens": 600, "output_tokens": 200},
        {"step": "candidates", "model": "c", "calls": 80, "input_tokens": 500, "output_tokens": 0, "without_usage": 1},
    ]
    training = {"pairs": 1100, "pairs_by_source": {"refined": 100, "sampled": 1000}}
    return {**run_entry({"held_out": held_out, "training": training, "cost": cost}), "train_seconds": seconds}


def results_of(seeds: list[int], **runs: list[dict[str, Any]]) -> dict[str, Any]:
    arms = {
        name: {"changes": [], "method": "m", "teacher": "t", "runs": dict(zip(map(str, seeds), of_arm, strict=True))}
        for name, of_arm in runs.items()
    }
    compared, columns = compared_metric(arms, None), shown_metrics(arms, None)
    return {"seeds": seeds, "columns": columns, "compare_on": compared, "arms": with_summaries(arms)}


def test_table_over_seeds() -> None:
    bt = [run_of(a, s) for a, s in ((60, 50.0), (62, 70.0), (64, 60.0))]
    better = [run_of(a, 600.0) for a in (65, 67, 70)]
    same = [run_of(a, 7200.0) for a in (60, 62, 64)]
    text = table(results_of([0, 1, 2], bt=bt, better=better, same=same))
    rest = "1,100 (100 refined) | 1,200 (1.0 M) | 40 (800) | 80 (at least 500)"
    # By hand: differences 5, 5, 6 have mean 5.333 and standard deviation 0.577, t = 16 on 2 degrees of freedom.
    assert text.splitlines() == [
        "|  | held-out pairs | held-out pairs − bt | p | p (Holm) | training pairs "
        "| teacher calls (tokens) in training | at evaluation | candidates' calls (tokens) | training time |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| bt | 62.0 [57.0, 67.0] | – | – | – | {rest} | 60 s |",
        f"| better | 67.3 [61.1, 73.6] | +5.3 [+3.9, +6.8] | 0.004 | 0.008 | {rest} | 10.0 min |",
        f"| same | 62.0 [57.0, 67.0] | +0.0 [+0.0, +0.0] | 1.000 | 1.000 | {rest} | 2.0 h |",
        "| always the longer response | 70.0 [70.0, 70.0] | – | – | – | – | – | – | – | – |",
        "",
        "Means over seeds 0, 1, 2, with 95% intervals over seeds (Student's t); p: two-sided paired t-test over seeds. "
        "Pairs, calls and times are medians over seeds. Held-out pairs are of 40 prompts unseen in training; 3 more "
        "pairs were too long.",
    ]


def test_table_of_one_seed() -> None:
    recorded = run_of(63, longer=50.0) | {"cost": [], "pairs_by_source": {}}
    results = results_of([7], a=[run_of(60)], b=[recorded])
    results["arms"]["b"]["teacher"] = None
    lines = table(results).splitlines()
    assert lines[2].startswith("| a | 60.0 [55.0, 65.0] | – | – | 1,100 (100 refined) |")
    assert lines[3] == "| b | 63.0 [58.0, 68.0] | +3.0 | – | 1,100 | – | – | – |"
    assert lines[4].startswith("| always the longer response (a) | 70.0 [65.0, 75.0] |")
    assert lines[5].startswith("| always the longer response (b) | 50.0 [45.0, 55.0] |")
    assert lines[-1].startswith("One seed, 7: 95% intervals are over the test prompts")
    assert "no calls): b." in lines[-1]
    assert panels(results) == {"held-out pairs": {"a": (60, 55, 65), "b": (63, 58, 68)}}


def test_figures_on_other_held_out_pairs_are_not_subtracted() -> None:
    same, other = ({**run_of(63), "held_out_pairs": name} for name in ("one set", "another set"))
    results = results_of([0], a=[{**run_of(60), "held_out_pairs": "one set"}], b=[same], c=[other])
    assert results["arms"]["b"]["difference"]["held_out.accuracy"]["mean"] == 3
    assert "held_out.accuracy" not in results["arms"]["c"]["difference"]
    assert "Not all arms have the same held-out pairs" in table(results)
    assert "Not all arms" not in table(results_of([0], a=[same], b=[same]))


def test_runs_that_lack_a_figure_are_left_out_of_it() -> None:
    without = run_of(60)
    without["figures"] = {}
    results = results_of([0, 1], a=[run_of(60), run_of(61)], b=[run_of(63), without], c=[without, without])
    arms = results["arms"]
    assert arms["b"]["summary"]["held_out.accuracy"]["n_seeds"] == 1
    assert arms["b"]["difference"]["held_out.accuracy"] == {
        "mean": 3.0,
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
    }
    assert arms["c"]["summary"] == arms["c"]["difference"] == {}
    assert "| c | – | – | – |" in table(results)
    nothing = results_of([0], a=[{**without, "pairs": None, "pairs_by_source": {}, "cost": []}])
    assert table(nothing).startswith("|  |\n|---|\n| a |\n")
    assert panels(nothing) == {}


def arm_of(values: list[float]) -> dict[str, Any]:
    figures = [{"policy.quality": {"value": value}} for value in values]
    runs = {str(seed): {"figures": figure, "held_out_pairs": None} for seed, figure in enumerate(figures)}
    return {"changes": [], "runs": runs}


def test_pairs_are_compared_seed_by_seed_and_corrected_among_themselves() -> None:
    arms = with_summaries({"a": arm_of([1, 2, 4]), "b": arm_of([2, 4, 5]), "c": arm_of([9, 1, 5])})
    first, second = with_pairs(arms, {"b": "a", "c": "b"})
    found = first["difference"]["policy.quality"]
    assert found["mean"] == pytest.approx(4 / 3, abs=1e-3)
    assert found == {**arms["b"]["difference"]["policy.quality"], "p_holm": pytest.approx(2 * found["p"])}
    assert second["difference"]["policy.quality"]["mean"] == pytest.approx((7 - 3 + 0) / 3, abs=1e-3)


def test_the_table_shows_the_pairs() -> None:
    arms = with_summaries({"a": arm_of([1, 2]), "b": arm_of([2, 4])})
    for arm in arms.values():
        for run in arm["runs"].values():
            run |= {"pairs": None, "pairs_by_source": {}, "cost": [], "train_seconds": None, "too_long": None}
    results = {"seeds": [0, 1], "columns": ["policy.quality"], "compare_on": "policy.quality", "arms": arms}
    assert "b − a" not in table({**results, "pairs": []})
    shown = table({**results, "pairs": with_pairs(arms, {"b": "a"})})
    assert "| b − a | +1.5 [-4.9, +7.9] |" in shown


def test_a_pair_of_arms_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="there is no arm 'c'"):
        Comparison(recipe="compare", output="x", base="b", arms={"a": [], "b": []}, pairs={"a": "c"})


def test_curves_are_means_over_seeds_of_runs_that_trained_a_policy(tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        rows = [{"step": step, "reward": step + seed, **({"look_kl": seed} if step == 2 else {})} for step in (1, 2)]
        (folder / "rl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = {str(seed): {"folder": str(tmp_path / str(seed))} for seed in (0, 1)}
    arms = {"ppo": {"runs": runs}, "rm": {"runs": {"0": {"folder": str(tmp_path)}}}}
    curves = training_curves({"arms": arms})
    assert curves == {
        "reward": {"ppo": [(1.0, 2.0), (2.0, 2.0)]},
        "KL to the start, nats a response": {"ppo": [(2.0, 0.5)]},
    }
