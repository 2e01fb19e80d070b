"""Several ledgers into one: nothing lost, nothing counted twice, nothing half taken in."""

import sqlite3
from contextlib import closing

import pytest
from ledgers import call, execute, fill, filled, run, version_1

from reward_distiller.errors import LedgerError
from reward_distiller.teacher import ledger_batches
from reward_distiller.teacher.ledger import Ledger, Lost, Stored
from reward_distiller.teacher.ledger_check import check
from reward_distiller.teacher.ledger_merge import Merged, merge
from reward_distiller.teacher.ledger_report import report


def merged(path, *others):
    with Ledger.open(path) as ledger:
        return [merge(ledger, other) for other in others]


def total(path):
    with Ledger.read(path) as ledger:
        assert check(ledger) == []
        return report(ledger).as_json()["total"]


def answer(path, text):
    with Ledger.read(path) as ledger:
        return ledger.get(call(text).key)


def test_the_sum_of_the_parts_is_what_the_whole_says(tmp_path):
    (tmp_path / "a").mkdir()
    ours, theirs = filled(tmp_path / "a"), tmp_path / "b.sqlite"
    fill(theirs, (call("x"), Stored(b"answer x", 7, 8, 0.5)), (call("y"), "HTTP 500"), (call("z"), None))
    parts = [total(ours), total(theirs)]
    assert merged(ours, theirs) == [Merged(3, 1, 0)]
    whole = total(ours)
    assert whole == {name: parts[0][name] + parts[1][name] for name in whole}
    assert answer(ours, "x") == Stored(b"answer x", 7, 8, 0.5)
    assert merged(ours, theirs) == [Merged(0, 0, 0)]
    assert total(ours) == whole
    assert total(theirs) == parts[1]


def test_a_new_file_becomes_the_others(tmp_path):
    for name in "ab":
        fill(tmp_path / name, (call(name), Stored(name.encode(), 1, 1)))
    said = run("merge", tmp_path / "new", tmp_path / "a", tmp_path / "b")
    assert said.count("1 attempts and 1 answers came in") == 2
    assert total(tmp_path / "new")["committed"] == 2


def test_what_both_have_bought_keeps_one_answer_and_counts_the_other_at_its_worst(tmp_path):
    for name in "ab":
        fill(tmp_path / name, (call("same"), Stored(name.encode(), 10, 20)))
    assert merged(tmp_path / "a", tmp_path / "b") == [Merged(1, 0, 1)]
    assert answer(tmp_path / "a", "same").body == b"a"
    found = total(tmp_path / "a")
    assert (found["committed"], found["unknown"], found["input_tokens"]) == (1, 1, 10)
    assert (found["worst_input"], found["worst_output"]) == (1000, 200)
    assert merged(tmp_path / "a", tmp_path / "b") == [Merged(0, 0, 1)]
    assert total(tmp_path / "a") == found


def test_what_was_in_flight_when_it_was_merged_first_is_brought_up_to_date(tmp_path):
    with Ledger.open(tmp_path / "b") as ledger:
        first, second, _ = ledger.begin([call("a"), call("b"), call("c")])
        assert merged(tmp_path / "a", tmp_path / "b") == [Merged(3, 0, 0)]
        ledger.finish([(first, call("a").key, Stored(b"late", 1, 2)), (second, call("b").key, Lost("broken off"))])
    assert merged(tmp_path / "a", tmp_path / "b") == [Merged(0, 1, 0)]
    assert answer(tmp_path / "a", "a").body == b"late"
    found = total(tmp_path / "a")
    assert (found["attempts"], found["committed"], found["unknown"]) == (3, 1, 2)


def test_batches_come_with_their_calls(tmp_path):
    fill(tmp_path / "a", (call("first"), Stored(b"x", 1, 1)))
    with Ledger.open(tmp_path / "a") as ledger:
        ledger_batches.begin(ledger, "teacher", "http://one", 0.5, [call("p")])
    with Ledger.open(tmp_path / "b") as ledger:
        batch = ledger_batches.begin(ledger, "teacher", "http://two", 0.25, [call("q"), call("r")])
        ledger_batches.note(ledger, batch, "batch_7", "in_progress")
    merged(tmp_path / "a", tmp_path / "b")
    with Ledger.open(tmp_path / "a") as ledger:
        [found] = ledger_batches.open_batches(ledger, "teacher", "http://two")
        assert (found.mark, found.remote, found.calls, found.waiting) == (batch.mark, "batch_7", 2, 2)
        assert ledger_batches.waiting_in(ledger, found).keys() == {call("q").key, call("r").key}
        line = report(ledger).lines[-1]
        assert line.worst_input_at_price == 1000 * (0.5 + 0.25 + 0.25)
    with Ledger.open(tmp_path / "b") as ledger:
        waiting = ledger_batches.waiting_in(ledger, batch)
        outcomes = [(attempt.id, key, Stored(b"late", 1, 1, 0.25)) for key, attempt in waiting.items()]
        ledger_batches.end(ledger, batch, "completed", outcomes)
    assert merged(tmp_path / "a", tmp_path / "b") == [Merged(0, 2, 0)]
    with Ledger.read(tmp_path / "a") as ledger:
        assert ledger_batches.open_batches(ledger, "teacher", "http://two") == []


def test_a_ledger_that_cannot_be_merged_changes_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    ours = filled(tmp_path / "a")
    before = total(ours)
    version_1(tmp_path / "old")
    (tmp_path / "text").write_text("no ledger")
    fill(tmp_path / "broken", (call("x"), Stored(b"x", 1, 1)))
    execute(tmp_path / "broken", "ALTER TABLE attempts DROP COLUMN detail")
    for other, said in (
        (ours, "is the ledger itself"),
        (tmp_path / "old", "ledger upgrade"),
        (tmp_path / "text", "not a ledger"),
        (tmp_path / "none", "is not there"),
        (tmp_path / "broken", "no such column"),
    ):
        with pytest.raises(LedgerError, match=said):
            merged(ours, other)
        assert total(ours) == before
    with closing(sqlite3.connect(ours)) as db:
        assert db.execute("SELECT count(*) FROM requests WHERE key = ?", (call("x").key,)).fetchone() == (0,)
