"""Files: there whole or not at all, and one owner at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import pytest

from reward_distiller.errors import ConfigError, FileError, LedgerError
from reward_distiller.files import link, locked, new_folder, read_rows, write_bytes, write_json, write_rows, write_text


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_old_file_and_makes_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "text.txt"
    write_text(path, "old ☃\n")
    write_text(path, "new ☃\n")
    assert path.read_bytes() == "new ☃\n".encode()
    assert names(path.parent) == ["text.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("broken", ["fsync", "replace", "chmod"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    path = tmp_path / "data.bin"
    write_bytes(path, b"old")

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(FileError, match=r"cannot be written \(No space left on device\)\. Make room"):
            write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["data.bin"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_that_stop_in_the_middle_leave_the_old_file(tmp_path, name):
    path = tmp_path / name
    write_rows(path, [{"n": 1}])

    def rows():
        yield {"n": 2}
        raise KeyError("broken")

    with pytest.raises(KeyError):
        write_rows(path, rows())
    assert list(read_rows(path)) == [(1, {"n": 1})]
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object()])
def test_a_value_that_json_has_not_is_not_written(tmp_path, value):
    write_json(tmp_path / "a.json", {"old": True})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"new": value})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": True}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_rows_come_back_as_they_were(tmp_path, name):
    rows = [{"text": 'a "b" \\ \n \u2028 ☃ \x1b', "n": 1.5, "list": [{"x": None}]}, {"text": "", "n": -2.0, "list": []}]
    write_rows(tmp_path / name, rows)
    assert [row for _, row in read_rows(tmp_path / name)] == rows


def test_a_new_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "model"
    with new_folder(target) as folder:
        (folder / "config.json").write_text("{}")
        assert not target.exists()
    assert names(target) == ["config.json"]
    assert names(tmp_path / "deep") == ["model"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_a_new_folder_replaces_the_old_one_only_when_it_is_done(tmp_path):
    target = tmp_path / "model"
    with new_folder(target) as folder:
        (folder / "old").touch()

    def interrupted():
        with new_folder(target) as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["model"]
    with new_folder(target) as folder:
        (folder / "new").touch()
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_lock_has_one_owner_and_says_so(tmp_path):
    path = tmp_path / "run" / ".lock"
    with locked(path):
        with pytest.raises(LedgerError, match="another run"), locked(path):
            pass
        with pytest.raises(ConfigError, match="another run"), locked(path, ConfigError):
            pass
    with locked(path):
        pass


def test_a_lock_ends_with_a_killed_process(tmp_path):
    path = tmp_path / "lock"
    program = (
        "import sys, time; from reward_distiller.files import locked\n"
        "with locked(sys.argv[1]): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(LedgerError), locked(path):
            pass
        child.kill()
    with locked(path):
        pass


def test_a_new_folder_can_be_read_by_others(tmp_path):
    with new_folder(tmp_path / "model") as folder:
        (folder / "weights").write_text("x")
        (folder / "weights").chmod(0o600)
    assert (tmp_path / "model" / "weights").stat().st_mode & 0o777 == 0o644


def test_a_link_is_replaced_and_nothing_else_is(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        link(tmp_path / "run" / "model", tmp_path / name)
        assert (tmp_path / "run" / "model").samefile(tmp_path / name)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert (moved / "model").samefile(tmp_path / "two")  # it is relative
    with pytest.raises(FileError, match=r"one is in the way of a link to .*two\. Move it"):
        link(tmp_path / "one", tmp_path / "two")
    assert [path.name for path in moved.iterdir()] == ["model"]
