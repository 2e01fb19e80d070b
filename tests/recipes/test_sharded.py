"""Construction in shares: the files are those of one process, whatever dies, and nothing is bought twice."""

import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path

import pytest
from labeled_runs import FILES, KEY, configured, construct, labeled_rows

from reward_distiller.cli.compare import parts_of
from reward_distiller.config import load_config
from reward_distiller.construct.shares import Share
from reward_distiller.errors import BudgetReached, ClusterError, ConfigError, RunFailed
from reward_distiller.files import write_rows
from reward_distiller.methods import METHODS
from reward_distiller.recipes.ray_workers import on_ray
from reward_distiller.recipes.reward_model import construct_into
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.sharded import FOLDER, Done, construct_sharded, in_this_process, work
from reward_distiller.records import Pair, Prompt
from reward_distiller.teacher.ledger import Ledger
from reward_distiller.teacher.ledger_check import check
from reward_distiller.testbed.server import serve

SHARDS = 4
COUNT = 60


@pytest.fixture
def rows(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HOSTILE_KEY", KEY)
    write_rows(tmp_path / "rows.jsonl", labeled_rows(COUNT, True))
    return tmp_path / "rows.jsonl"


def run(config: Path, workers=in_this_process, shards: int = SHARDS, **changes):
    settings = load_config(config, [f"{name}={value}" for name, value in changes.items()])
    with run_folder(settings) as folder:
        return construct_sharded(folder, settings, parts_of, shards, workers)


def attempts(folder: Path) -> Counter:
    with Ledger.read(folder / "ledger.sqlite") as ledger:
        assert check(ledger) == []
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return Counter(outcome for (outcome,) in db.execute("SELECT outcome FROM attempts"))


def test_shares_are_all_prompts_once_and_keep_a_prompt_together():
    prompts = [Prompt.from_text(str(n)) for n in range(50)]
    pairs = [Pair.of(p, "a", name, "labeled", chosen_score=2, rejected_score=1) for p in prompts for name in "bc"]
    shares = [Share(n, 3) for n in range(3)]
    assert sorted(p.id for s in shares for p in s.prompts(prompts)) == sorted(p.id for p in prompts)
    assert all({p.prompt.id for p in s.pairs(pairs)} == {p.id for p in s.prompts(prompts)} for s in shares)
    assert min(len(s.prompts(prompts)) for s in shares) > 5
    with pytest.raises(ValueError, match="share 3 of 3"):
        Share(3, 3)


def test_the_files_are_those_of_one_process_and_every_call_is_made_once(tmp_path, rows):
    one, several = tmp_path / "one", tmp_path / "several"
    with serve(api_key=KEY) as server:
        construct(configured(one, rows, server, 0.2))
        calls = server.written
        made = run(configured(several, rows, server, 0.2))
        assert server.written == 2 * calls
    assert len(made.pairs) > COUNT / 2
    for name in FILES:
        assert (several / name).read_bytes() == (one / name).read_bytes(), name
    assert attempts(several) == {"committed": calls}
    assert list((several / FOLDER).iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_shares_are_those_of_one_process_for_every_method(tmp_path, method):
    files = {}
    for name in ("one", "several"):
        changes = [f"output={tmp_path / name}", f"method={method}", "prompts.testbed.count=15", "testbed.garble=0.05"]
        with resources.as_file(resources.files("reward_distiller.testbed")) as folder:
            settings = load_config(folder / "demo.yaml", changes)
        with run_folder(settings) as output:
            if name == "one":
                construct_into(output, settings, parts_of(settings))
            else:
                construct_sharded(output, settings, parts_of, 3, in_this_process)
        files[name] = [(output / file).read_bytes() for file in FILES]
    assert files["one"] == files["several"]


def test_what_is_there_already_is_not_bought_again_in_other_shares(tmp_path, rows):
    folder = tmp_path / "run"
    with serve(api_key=KEY) as server:
        config = configured(folder, rows, server, 0.2)

        def half(job):
            yield work(job, 0)
            yield work(job, 1)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(config, half)
        assert len([path for path in (folder / FOLDER).iterdir() if path.suffix == ".sqlite"]) == 2
        bought = server.written
        assert bought > 0
        run(config, shards=3)
        calls = server.written
        run(config, shards=2)
        assert server.written == calls
    assert attempts(folder) == {"committed": calls}


def test_a_worker_that_fails_is_named_when_what_it_bought_is_safe(tmp_path, rows):
    folder = tmp_path / "run"

    def one_fails(job):
        yield Done(0, 0, 5, "too many failed")
        yield from (work(job, number) for number in range(1, SHARDS))

    with serve(api_key=KEY) as server:
        config = configured(folder, rows, server, 0.0)
        with pytest.raises(RunFailed, match=r"share 1 of 4: ended with exit code 5. too many failed") as failed:
            run(config, one_fails)
        assert failed.value.exit_code == 5
        assert attempts(folder) == {"committed": server.written}


def test_a_budget_is_divided_and_never_passed(tmp_path, rows):
    folder = tmp_path / "run"
    with serve(api_key=KEY) as server:
        config = configured(folder, rows, server, 0.0)
        with pytest.raises(RunFailed, match=r"cap on calls") as failed:
            run(config, **{"budget.calls": 21})
        assert failed.value.exit_code == BudgetReached.exit_code
        assert 0 < server.written <= 20
        with pytest.raises(RunFailed):
            run(config, **{"budget.calls": 30})
        assert server.written <= 30
        spent = server.written
        with pytest.raises(BudgetReached):
            run(config, **{"budget.calls": spent})
        assert server.written == spent


def test_a_server_of_our_own_for_each_share_is_refused(tmp_path, rows):
    with serve() as server:
        config = configured(tmp_path / "run", rows, server, 0.0)
    text = config.read_text().replace(f"base_url: {server.base_url}", "launch: vllm")
    config.write_text(text)
    with pytest.raises(ConfigError, match="launch would start a server for each share"):
        run(config)


def test_a_cluster_that_is_not_there_is_an_error_that_says_so(tmp_path, rows):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with serve(api_key=KEY) as server, pytest.raises(ClusterError, match=r"Ray at 127\.0\.0\.1:1"):
        run(configured(tmp_path / "run", rows, server, 0.0), on_ray("127.0.0.1:1"))


def holder(path: Path) -> int | None:
    """The process of a worker that has a file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink() == path and int(link.parts[2]) != os.getpid():
                return int(link.parts[2])
        except OSError:
            continue
    return None


def stop(pid: int) -> None:
    """Stop a process and wait until each of its threads has: a signal is only on its way when `kill` returns."""
    os.kill(pid, signal.SIGSTOP)
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # the thread has ended
            while stat.read_text().rpartition(")")[2].split()[0] not in "TZX":
                time.sleep(0.001)


def in_flight(ledger: Path) -> bool:
    """Whether an attempt of the ledger has no outcome; not where its writer holds it back."""
    try:
        with closing(sqlite3.connect(ledger, timeout=0.1)) as db:
            return bool(db.execute("SELECT count(*) FROM attempts WHERE outcome IS NULL").fetchone()[0])
    except sqlite3.OperationalError:
        return False


def test_on_a_cluster_of_two_nodes_a_worker_that_is_killed_loses_nothing(tmp_path, rows):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    one, several = tmp_path / "one", tmp_path / "several"
    with serve(api_key=KEY) as server:
        construct(configured(one, rows, server, 0.2))
        calls = server.written
    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    with serve(api_key=KEY, latency=0.1) as server:
        config = configured(several, rows, server, 0.2, concurrency=2, timeout=20.0)
        ledger = several / FOLDER / f"ledger-0-of-{SHARDS}.sqlite"
        killed: list[int] = []

        def kill() -> None:
            while not killed and server.written < calls:
                if server.written > calls // 8 and (pid := holder(ledger)):
                    with suppress(ProcessLookupError):  # it may have ended by itself
                        stop(pid)  # so that what is in flight stays so
                        if in_flight(ledger):
                            os.kill(pid, signal.SIGKILL)
                            killed.append(pid)
                        else:
                            os.kill(pid, signal.SIGCONT)
                time.sleep(0.02)

        killer = threading.Thread(target=kill)
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            cluster.add_node(**node)
            killer.start()
            made = run(config, on_ray(cluster.address))
        finally:
            cluster.shutdown()
            if killer.ident:
                killer.join(60)
        assert killed
        assert len(made.pairs) > COUNT / 2
        found = attempts(several)
        assert found["committed"] == calls
        assert calls <= server.written <= calls + found[None]
        assert 0 < found[None] <= 2  # as many as the worker had in flight
    for name in FILES:
        assert (several / name).read_bytes() == (one / name).read_bytes(), name
