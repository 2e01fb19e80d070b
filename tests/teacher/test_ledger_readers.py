"""Readers of a ledger: any number, beside a writer in another process, and without a trace where there is no ledger.

Run as a program (`python test_ledger_readers.py LEDGER`) it writes calls until its stdin ends, for those who read.
"""

from __future__ import annotations

import itertools
import os
import select
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reward_distiller.errors import LedgerError
from reward_distiller.teacher.ledger import BATCH, Call, Ledger, LedgerReader, Stored


def write_until_told(path: str) -> None:
    with Ledger.open(path) as ledger:
        for number in itertools.count():
            [attempt] = ledger.begin([Call(f"key {number}", "m", "{}", "s", 10, 20)])
            ledger.finish([(attempt, f"key {number}", Stored(b"body" * 500, 1, 2))])
            os.write(1, b".")
            if select.select([0], [], [], 0)[0]:
                break


@contextmanager
def writer(path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, __file__, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.read(1) == b"."
            yield child
        finally:
            child.stdin.close()
            for _ in child.stdout:  # a pipe that is full would hold it
                pass
        assert child.wait(20) == 0


def answers(path, count: int) -> dict[str, Stored]:
    made = {f"key {number}": Stored(f"body {number}".encode(), number, None) for number in range(count)}
    with Ledger.open(path) as ledger:
        ids = ledger.begin([Call(key, "m", "{}", "s") for key in made])
        ledger.finish([(attempt, key, stored) for attempt, (key, stored) in zip(ids, made.items(), strict=True)])
    return made


def test_readers_read_while_another_process_writes(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with writer(path) as child:
        with pytest.raises(LedgerError, match="another run"), Ledger.open(path):
            pass
        with Ledger.read(path) as reader, Ledger.read(path) as other:
            with reader.snapshot():
                before = reader.stats()
                child.stdout.read(before["committed"] + 5)  # a dot for each that was ever written
                assert reader.stats() == before  # of one moment
                assert other.stats()["committed"] >= before["committed"] + 5
            assert reader.stats()["committed"] >= before["committed"] + 5
            assert reader.get("key 0") == Stored(b"body" * 500, 1, 2)
            assert before["attempts"] - before["committed"] == before["unknown"] in (0, 1)
    with Ledger.open(path) as ledger:
        assert ledger.unknown_attempts == 0  # the writer was never in anybody's way


def test_a_reader_sees_all_that_a_killed_writer_has_committed_and_leaves_nothing_that_stays(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with subprocess.Popen(
        [sys.executable, __file__, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.read(5) == b"....."
        child.kill()
    with Ledger.read(path) as reader:
        assert {f"key {number}" for number in range(5)} <= set(reader.get_many(f"key {n}" for n in range(5)))
        assert reader.unknown_attempts in (0, 1)
    with Ledger.open(path):
        pass
    assert {file.name for file in tmp_path.iterdir()} == {"ledger.sqlite", "ledger.sqlite.lock"}


def test_many_answers_at_once_are_the_same_as_one_by_one_also_beside_a_writer(tmp_path):
    path = tmp_path / "ledger.sqlite"
    made = answers(path, 3 * BATCH + 7)
    wanted = [*made, "nobody asked", *list(made)[:5]]
    with Ledger.read(path) as reader:
        assert reader.get_many(wanted) == made
        assert reader.get_many(wanted[:3]) == {key: reader.get(key) for key in wanted[:3]}
        assert reader.get_many([]) == reader.get_many(["nobody asked"]) == {}
    with Ledger.open(path) as ledger:
        [attempt] = ledger.begin([Call("new", "m", "{}", "s")])
        ledger.finish([(attempt, "new", Stored(b"new", 1, 1))])
        assert ledger.get_many([*made, "new"]) == {**made, "new": Stored(b"new", 1, 1)}


@pytest.mark.parametrize("name", ["missing.sqlite", "no/folder/ledger.sqlite", "what?mode=rwc", "100%#1.sqlite"])
def test_reading_what_is_not_there_is_an_error_and_makes_nothing(tmp_path, name):
    with pytest.raises(LedgerError, match="is not there"), Ledger.read(tmp_path / name):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(LedgerError, match="is a folder"), Ledger.read(tmp_path):
        pass


@pytest.mark.parametrize("name", ["what?mode=rwc", "100%#1.sqlite", "ein Ordner ☃/buch.sqlite"])
def test_a_name_that_a_uri_would_read_otherwise_is_a_name(tmp_path, name):
    made = answers(tmp_path / name, 2)
    with Ledger.read(tmp_path / name) as reader:
        assert reader.get("key 1") == made["key 1"]
    assert {path.name.split(".lock")[0].split("-")[0] for path in (tmp_path / name).parent.iterdir()} == {
        (tmp_path / name).name
    }


def test_a_reader_cannot_write(tmp_path):
    path = tmp_path / "ledger.sqlite"
    answers(path, 1)
    with Ledger.read(path) as reader:
        assert type(reader) is LedgerReader
        assert not hasattr(reader, "begin")
        for text in ("DELETE FROM responses", "PRAGMA user_version = 1"):
            with pytest.raises(LedgerError, match=r"cannot be read .*readonly"):
                list(reader.rows(text))


def test_a_damaged_page_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "ledger.sqlite"
    answers(path, 2000)
    data = bytearray(path.read_bytes())
    for page in range(4096 * 10, len(data), 4096):
        data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(bytes(data))
    with Ledger.read(path) as reader, pytest.raises(LedgerError, match=r"ledger\.sqlite cannot be read"):
        reader.get_many(f"key {number}" for number in range(2000))


def test_a_transaction_that_sqlite_ended_by_itself_is_told_by_its_own_error(tmp_path):
    def fill_the_disk(db):
        db.execute("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(LedgerError, match="disk is full"), ledger.transaction() as db:
            fill_the_disk(db)
        ledger.begin([Call("key", "m", "{}", "s")])


def test_the_count_of_unknown_attempts_reads_an_index_of_these_alone(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        plan = list(ledger.rows("EXPLAIN QUERY PLAN SELECT count(*) FROM attempts WHERE outcome IS NULL"))
    assert "attempts_open" in plan[0][-1]


if __name__ == "__main__":
    write_until_told(sys.argv[1])
