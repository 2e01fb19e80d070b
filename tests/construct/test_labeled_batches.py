"""`construct` whole through the batch API, with batches that go wrong and a client that is killed: the files are those
of direct calls, and nothing that was handed over is handed over again."""

import random
import signal
import sqlite3
from contextlib import closing

from labeled_runs import FILES, KEY, child, configured, construct, labeled_rows

from reward_distiller.files import write_rows
from reward_distiller.testbed.server import serve


def test_faults_and_kills_change_nothing_in_batches(tmp_path, monkeypatch):
    monkeypatch.setenv("HOSTILE_KEY", KEY)
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, labeled_rows(40, True))
    calm, rough, said = tmp_path / "calm", tmp_path / "rough", tmp_path / "said.txt"
    with serve(api_key=KEY) as server:
        construct(configured(calm, rows, server, 0.1))
        calls = server.written
    faults = ["repeat", "expire", "deaf", "cut"]
    with serve(api_key=KEY, faults={"500": 0.1, "429": 0.1}, batch_looks=3, batch_faults=faults) as server:
        batch = {"poll": 0.03, "max_requests": 60}
        config = configured(rough, rows, server, 0.1, batch=batch)
        rng, kills = random.Random(), 0
        for _ in range(8):
            with child(config, said) as process:
                process.join(0.3 + rng.random())  # a start takes about 0.2
                killed = process.is_alive()
                process.kill()
                process.join()
                kills += killed and process.exitcode == -signal.SIGKILL
        with child(config, said) as process:
            process.join(120)
            assert process.exitcode == 0, said.read_text()
        assert kills >= 1
        assert server.batches.created > 4
        written = server.written
    for name in FILES:
        assert (rough / name).read_bytes() == (calm / name).read_bytes(), name
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    with closing(sqlite3.connect(rough / "ledger.sqlite")) as db:
        by_outcome = dict(db.execute("SELECT coalesce(outcome, 'unknown'), count(*) FROM attempts GROUP BY 1"))
        factors = db.execute("SELECT DISTINCT price_factor FROM responses").fetchall()
    assert factors == [(0.5,)]
    assert by_outcome["committed"] == calls <= written <= calls + by_outcome.get("unknown", 0)
