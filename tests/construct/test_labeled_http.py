"""`construct` whole, through the HTTP server with faults, killed and run again: the files are those of a calm run.

Which faults leave the outcome alone, and why:

- A transport fault (429, 500, reset, hang) is retried under the same sample index: no trace of it is left.
- A useless body uses up a sample. The server answers by the body alone, and the sample index is not on the
  wire, so the next sample's answer is the very one that the fault withheld; and faults stop after two asks
  of a body, one less than `max_asks`. So nothing ends in quarantine that would not have anyway.
- But what does end in quarantine is kept with all its raw texts, useless bodies among them. So the run with
  useless bodies has `garble: 0`, and the run with garbled answers has transport faults only.
- `garbage` is text, and to a question for free text (candidates, references) any text is an answer, as are
  HTML and 5 MB of words. So the rows bring their teacher responses along where these are among the faults.
- `length` and `refusal` are left out: what was cut off or refused is set aside, as it should be.
"""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from labeled_runs import FILES, KEY, child, configured, construct, labeled_rows, run_and_kill

from reward_distiller.files import write_rows
from reward_distiller.records import canonical_json
from reward_distiller.testbed.faults import FAULTS
from reward_distiller.testbed.server import serve

TRANSPORT = {"429": 0.15, "500": 0.1, "reset": 0.1, "hang": 0.03}
USELESS = {"truncated_json": 0.1, "empty_choices": 0.1, "html": 0.1, "garbage": 0.1}
ALL = {name: 0.2 / (len(FAULTS) - 2) for name in FAULTS if name not in ("length", "refusal")}


@pytest.mark.parametrize(
    ("count", "faults", "garble", "teacher_response", "kills"),
    [
        pytest.param(40, TRANSPORT, 0.25, False, 3, id="transport"),
        pytest.param(40, TRANSPORT | USELESS, 0.0, True, 1, id="useless"),
        pytest.param(100, ALL, 0.0, True, 20, id="all"),
    ],
)
def test_faults_and_kills_change_nothing(tmp_path, monkeypatch, count, faults, garble, teacher_response, kills):
    monkeypatch.setenv("HOSTILE_KEY", KEY)
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, labeled_rows(count, teacher_response))
    calm, rough, said = tmp_path / "calm", tmp_path / "rough", tmp_path / "said.txt"
    with serve(api_key=KEY) as server:
        construct(configured(calm, rows, server, garble))
        calls = server.written
    with serve(api_key=KEY, faults=faults, latency=0.01, hang_seconds=2.0) as server:
        config = configured(rough, rows, server, garble)
        rng = random.Random()
        for _ in range(kills):
            run_and_kill(config, said, server, rng.randint(1, calls // (kills + 2)))
        with child(config, said) as process:
            process.join(120)
            assert process.exitcode == 0, said.read_text()
    for name in FILES:
        assert (rough / name).read_bytes() == (calm / name).read_bytes(), name
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

    pairs = [json.loads(line) for line in (rough / "pairs.jsonl").read_text().splitlines()]
    assert {p["source"] for p in pairs} == {"labeled", "refined"}
    assert len(pairs) > count / 2
    assert bool((rough / "quarantine.jsonl").read_bytes()) == (garble > 0)
    with closing(sqlite3.connect(rough / "ledger.sqlite")) as db:
        attempts = db.execute("SELECT request, outcome FROM attempts JOIN requests USING (key)").fetchall()
        killed = "SELECT count(*) FROM attempts WHERE outcome IS NULL AND finished IS NULL"
        assert db.execute(killed).fetchone()[0] >= kills // 4  # most kills meet calls in flight
        twice = "SELECT key FROM attempts WHERE outcome = 'committed' GROUP BY key HAVING count(*) > 1"
        assert db.execute(twice).fetchall() == []
    outcomes = Counter(outcome for _, outcome in attempts)
    assert outcomes[None] >= 1
    assert outcomes["failed"] >= 1
    assert f"{outcomes[None]} attempts have no known outcome" in said.read_text()
    # What was paid for is in the ledger, question by question, but for calls in flight at a kill or lost on their way.
    committed = Counter(on_the_wire(request) for request, outcome in attempts if outcome == "committed")
    unknown = Counter(on_the_wire(request) for request, outcome in attempts if outcome is None)
    assert not committed - server.answered
    assert not server.answered - (committed + unknown)


def on_the_wire(request: str) -> str:
    """The SHA-256 of what was sent: the request without the number of the sample."""
    body = {name: value for name, value in json.loads(request).items() if name != "sample"}
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()
