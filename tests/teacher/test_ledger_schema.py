"""Older ledgers: brought to this version with all that they hold, or left as they were."""

from __future__ import annotations

import sqlite3

import pytest
from helpers import fake, fake_engine
from ledgers import REQUESTS, version_1

from reward_distiller.errors import LedgerError
from reward_distiller.teacher.ledger import Ledger, Stored, request_key
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.worst_case import worst_case
from reward_distiller.testbed.models import completion_body

COLUMNS = {
    "requests": "key, model, request",
    "attempts": "id, key, step, started, outcome, detail, finished",
    "responses": "key, attempt, body, input_tokens, output_tokens",
}


def contents(path) -> dict[str, list[tuple]]:
    with sqlite3.connect(path) as db:
        return {table: db.execute(f"SELECT {names} FROM {table}").fetchall() for table, names in COLUMNS.items()}


def query(path, text: str) -> list[tuple]:
    with sqlite3.connect(path) as db:
        return db.execute(text).fetchall()


def test_a_ledger_of_version_1_opens_and_keeps_everything(tmp_path):
    path = tmp_path / "ledger.sqlite"
    version_1(path)
    before = {table: sorted(rows, key=str) for table, rows in contents(path).items()}
    for _ in range(2):
        with Ledger.open(path) as ledger:
            assert ledger.unknown_attempts == 9
            body = completion_body("teacher", "answer 3", 1, "x")
            assert ledger.get(request_key(REQUESTS[2])) == Stored(body, 3, 4)
        assert {table: sorted(rows, key=str) for table, rows in contents(path).items()} == before
    assert query(path, "PRAGMA user_version") == [(3,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_what_was_in_flight_in_version_1_gets_its_worst_case_and_nothing_else_does(tmp_path):
    path = tmp_path / "ledger.sqlite"
    version_1(path)
    with Ledger.open(path):
        pass
    found = query(path, "SELECT id, worst_input, worst_output FROM attempts ORDER BY id")
    lost = {n: worst_case(REQUESTS[n - 1]) for n in range(1, 21) if n % 3 == 2}
    assert found == [(n, *lost.get(n, (None, None))) for n in (*range(1, 21), 98, 99)]
    assert all(None not in worst for worst in lost.values())


def test_rows_stand_in_the_order_in_which_they_came(tmp_path):
    path = tmp_path / "ledger.sqlite"
    version_1(path)
    keys = [request_key(request) for request in REQUESTS]
    assert query(path, "SELECT key FROM requests") != [(key,) for key in keys]
    with Ledger.open(path):
        pass
    in_order = [key for (key,) in query(path, "SELECT key FROM requests ORDER BY rowid") if key in keys]
    assert in_order == keys
    assert query(path, "SELECT attempt FROM responses ORDER BY rowid") == [(n,) for n in range(3, 21, 3)]


def test_a_run_goes_on_from_a_ledger_of_version_1_and_asks_only_what_is_missing(tmp_path):
    version_1(tmp_path / "ledger.sqlite")
    questions = [Question(str(n), request["messages"], str) for n, request in enumerate(REQUESTS, 1) if n % 2]
    with fake_engine(tmp_path, lambda request: "new") as (engine, transport):
        outcomes = engine.ask(fake(), "s", questions)
    assert [o.value for n, o in outcomes.items() if isinstance(o, Answer) and int(n) % 3 == 0] == [
        "answer 3",
        "answer 9",
        "answer 15",
    ]
    assert len(transport.asked) == 7


@pytest.mark.parametrize(
    "damaged", ["DROP TABLE responses", "DROP TABLE attempts", "CREATE TABLE responses_in_order (x)"]
)
def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path, damaged):
    path = tmp_path / "ledger.sqlite"
    version_1(path, damaged)
    before = query(path, "SELECT * FROM sqlite_master"), query(path, "SELECT * FROM requests")
    with pytest.raises(LedgerError, match=r"cannot be brought to version 2 .* stays as it was"), Ledger.open(path):
        pass
    assert (query(path, "SELECT * FROM sqlite_master"), query(path, "SELECT * FROM requests")) == before
    assert query(path, "PRAGMA user_version") == [(1,)]


def test_somebody_elses_database_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    for opened in (Ledger.open, Ledger.read):
        with pytest.raises(LedgerError, match=r"places\.sqlite is an SQLite file of something else"), opened(path):
            pass
    assert path.read_bytes() == before


def test_a_reader_brings_nothing_up_to_date_and_says_how_to(tmp_path):
    path = tmp_path / "ledger.sqlite"
    version_1(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"version 1; this package reads version 3\. .*ledger upgrade"):
        Ledger.read(path).__enter__()
    assert path.read_bytes() == before


def test_a_reader_refuses_a_newer_version_an_empty_file_and_no_database(tmp_path):
    newer, empty, text = tmp_path / "newer", tmp_path / "empty", tmp_path / "text"
    query(newer, "PRAGMA user_version = 99")
    empty.touch()
    text.write_text("this is a text, and a long one at that" * 100)
    for path, problem in ((newer, "newer version"), (empty, "is empty"), (text, "not a ledger")):
        before = path.read_bytes()
        with pytest.raises(LedgerError, match=problem), Ledger.read(path):
            pass
        assert path.read_bytes() == before
