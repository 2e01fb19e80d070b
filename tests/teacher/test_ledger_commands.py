"""`reward-distiller ledger ...`: what a ledger came to, one call whole, what is deleted, what is found to be wrong."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest
from helpers import HOSTILE
from ledgers import call, counts, execute, fill, filled, run, version_1
from typer.testing import CliRunner

from reward_distiller.cli.ledger import app
from reward_distiller.config import ChatModel, Price
from reward_distiller.errors import ConfigError, LedgerError
from reward_distiller.teacher.ledger import Call, Ledger, Stored
from reward_distiller.teacher.ledger_report import prices_of

CONFIG = """
output: runs/x
prompts: {path: prompts.jsonl}
candidates: [{model: small, base_url: testbed}]
teacher: {model: teacher, base_url: testbed, price: {input: 2.0, output: 10.0}}
student: {model: testbed}
"""


def test_stats_by_model_and_step_with_what_is_unknown_beside_what_is_known(tmp_path):
    ledger = filled(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    text = run("stats", ledger, "--config", config)
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["5", "requests"]
    assert ["small", "draw", "1", "0", "0", "0", "1", "0", "0", "0.0000"] in lines
    assert ["teacher", "refine", "1", "1", "0", "0", "0", "unknown", "unknown", "unknown"] in lines
    assert ["teacher", "score", "4", "2", "0", "1", "1", "1500000", "100000", "4.0000"] in lines
    total = ["total", "6", "3", "0", "1", "2", "1500000", "+", "unknown", "100000", "+", "unknown", "unknown"]
    assert total in lines
    assert ["small", "draw", "1", "unknown", "unknown", "unknown"] in lines  # the attempts of unknown outcome
    assert ["teacher", "score", "1", "1000", "200", "0.0040"] in lines
    assert "money" not in run("stats", ledger)


def test_stats_for_programs_add_up_and_never_call_the_unknown_0(tmp_path):
    ledger = filled(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    found = json.loads(run("stats", ledger, "--json", "--config", config))
    rows = {(row["model"], row["step"]): row for row in found["lines"]}
    assert found["requests"] == 5
    for name in ("attempts", "committed", "failed", "unknown", "input_tokens", "worst_output"):
        assert found["total"][name] == sum(row[name] for row in found["lines"])
    assert rows["teacher", "score"]["money"] == pytest.approx(1.5 * 2 + 0.1 * 10)
    assert rows["teacher", "score"]["worst_money"] == pytest.approx((1000 * 2 + 200 * 10) / 1e6)
    assert rows["teacher", "refine"]["money"] is None
    assert rows["teacher", "refine"]["without_usage"] == 1
    assert rows["small", "draw"]["money"] == 0  # nothing was billed for sure
    assert rows["small", "draw"]["worst_money"] is None
    assert found["total"]["money"] is None
    assert found["total"]["worst_money"] is None
    assert "money" not in json.loads(run("stats", ledger, "--json"))["total"]


def test_stats_of_a_ledger_with_nothing_in_it(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite"):
        pass
    assert "0 requests" in run("stats", tmp_path / "ledger.sqlite")
    assert json.loads(run("stats", tmp_path / "ledger.sqlite", "--json"))["total"]["attempts"] == 0


def test_a_servers_absurd_usage_is_no_error(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, *[(call(str(n)), Stored(b"x", 2**62 - 1, 2**62 - 1)) for n in range(4)])
    assert json.loads(run("stats", path, "--json"))["total"]["input_tokens"] == 2**64


def test_a_model_with_two_prices_has_none_that_is_known():
    def model(name, price):
        return ChatModel(model=name, base_url="testbed", price=price)

    cheap, dear = Price(input=1, output=1), Price(input=2, output=2)
    models = [model("a", cheap), model("a", cheap), model("b", cheap), model("b", dear), model("c", None)]
    assert prices_of(models) == {"a": cheap, "b": None, "c": None}


def test_stats_read_beside_a_run_that_writes(tmp_path):
    ledger = filled(tmp_path)
    with Ledger.open(ledger):
        assert "5 requests" in run("stats", ledger)


@pytest.mark.parametrize(
    "command", [["stats"], ["show", "KEY"], ["export", "OUT"], ["prune", "--failed"], ["check"], ["upgrade"]]
)
def test_a_ledger_that_is_not_there_is_an_error_and_stays_so(tmp_path, command):
    name, *rest = [str(tmp_path / "out.jsonl") if word == "OUT" else word for word in command]
    with pytest.raises(LedgerError, match="is not there"):
        run(name, tmp_path / "typo.sqlite", *rest)
    assert list(tmp_path.iterdir()) == []


def test_a_call_is_shown_whole_by_the_beginning_of_its_key(tmp_path):
    ledger = filled(tmp_path)
    key = call("b").key
    for prefix in (key, key[:14], key.removeprefix("sha256:"), key.removeprefix("sha256:")[:7]):
        text = run("show", ledger, prefix)
        assert key in text
        assert '"content": "b"' in text
        assert "answer b" in text
        assert "2  score: failed (HTTP 500: busy), sent 20" in text
        assert "3  score: committed, sent 20" in text
        assert "of attempt 3, 500000 input tokens, 0 output tokens" in text
    lost = run("show", ledger, call("d").key)
    assert "5  score: unknown" in lost
    assert "at most 1000 input and 200 output tokens" in lost
    assert "response: none" in lost
    assert r"\xff\xfe" in run("show", ledger, call("c").key)
    assert "unknown input tokens" in run("show", ledger, call("c").key)


@pytest.mark.parametrize("prefix", ["sha256:x", "zzz", "%", "_", "", "sha256:", "\udcff", "☃", "\x1b[31m", "' OR 1 --"])
def test_a_key_of_none_or_of_many_is_an_error_that_says_so(tmp_path, prefix):
    ledger = filled(tmp_path)
    from reward_distiller.teacher.ledger_show import show

    many = prefix in ("", "sha256:")
    with (
        Ledger.read(ledger) as reader,
        pytest.raises(LedgerError, match="more than one key" if many else "no call") as caught,
    ):
        show(reader, prefix)
    assert "\x1b" not in str(caught.value)


def test_what_a_server_wrote_cannot_speak_to_the_terminal(tmp_path):
    path = tmp_path / "ledger.sqlite"
    bad = "\x1b]0;owned\x07\x9b31m\r\x08\u202e" + HOSTILE
    one = call(bad, model="m\x1b[2J", step="s\x1b[2J")
    fill(path, (one, f"HTTP 500: {bad}"), (one, Stored(f"line 1\nline 2 {bad}".encode(), 1, 1)), (one, None))
    for text in (run("show", path, one.key), run("stats", path), run("prune", path, "--failed")):
        assert all(c.isprintable() or c == "\n" for c in text)
        assert "\\x1b" in text
    assert "line 1\nline 2 \\x1b]0;owned\\x07\\x9b31m\\r\\x08\\u202e" in run("show", path, one.key)


def test_a_row_that_is_damaged_is_shown_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, (Call("sha256:00", "m", '{"half', "s"), None))
    assert '{"half' in run("show", path, "sha256:00")


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--failed"], (5, 5, 3)),
        (["--unknown"], (3, 4, 3)),
        (["--failed", "--unknown"], (3, 3, 3)),
        (["--step", "refine"], (4, 5, 2)),
        (["--step", "score"], (3, 3, 1)),
        (["--model", "teacher"], (2, 2, 0)),
        (["--model", "teacher", "--failed"], (5, 5, 3)),
        (["--model", "small", "--unknown"], (4, 5, 3)),
        (["--model", "small"], (5, 6, 3)),
        (["--model", "teacher", "--step", "draw"], (5, 6, 3)),
        (["--model", "teach%"], (5, 6, 3)),
    ],
)
def test_what_is_pruned_is_shown_first_and_goes_only_with_yes(tmp_path, options, left):
    ledger = filled(tmp_path)
    assert counts(ledger) == (5, 6, 3)
    shown = run("prune", ledger, *options)
    assert counts(ledger) == (5, 6, 3)
    gone = 6 - left[1]
    assert ("Add --yes" in shown and f"{gone} attempts" in shown) if gone else "nothing to delete" in shown
    run("prune", ledger, *options, "--yes")
    assert counts(ledger) == left
    run("check", ledger)


def test_unknown_attempts_go_only_by_name(tmp_path):
    ledger = filled(tmp_path)
    for options in (["--model", "teacher"], ["--step", "score"], ["--failed"]):
        assert "unknown" not in run("prune", ledger, *options)
        run("prune", ledger, *options, "--yes")
    with Ledger.open(ledger) as opened:
        assert opened.unknown_attempts == 2


def test_pruning_everything_is_no_default(tmp_path):
    ledger = filled(tmp_path)
    for more in ([], ["--yes"]):
        with pytest.raises(ConfigError, match="all that was paid for"):
            run("prune", ledger, *more)
    assert counts(ledger) == (5, 6, 3)


def test_pruning_waits_for_no_run_and_makes_the_file_smaller(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(
        path, *[(call(str(n), step="big"), Stored(b"x" * 10_000, 1, 1)) for n in range(50)], (call("kept"), "HTTP 400")
    )
    before = path.stat().st_size
    with Ledger.open(path), pytest.raises(LedgerError, match="another run"):
        run("prune", path, "--step", "big", "--yes")
    assert counts(path) == (51, 51, 50)
    run("prune", path, "--step", "big", "--yes")
    assert counts(path) == (1, 1, 0)
    assert path.stat().st_size < before / 4
    with Ledger.open(path) as ledger:
        assert ledger.get(call("1").key) is None


def test_a_sound_ledger_is_called_sound_unknown_attempts_or_not(tmp_path):
    ledger = filled(tmp_path)
    assert "sound: 5 requests, 6 attempts, 3 committed, 1 failed, 2 unknown" in run("check", ledger)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE requests SET request = replace(request, 'a', 'b')", "5 keys that are not the hash"),
        ("UPDATE attempts SET outcome = 'failed' WHERE id = 1", "1 responses without an attempt that brought them"),
        ("UPDATE responses SET attempt = 3", "2 responses without an attempt that brought them"),
        ("DELETE FROM attempts WHERE id = 3", "1 responses without an attempt that brought them"),
        ("DELETE FROM attempts WHERE id = 6", "1 requests without an attempt"),
        ("DELETE FROM responses WHERE attempt = 1", "1 answered attempts whose response is not there, or"),
        ("DELETE FROM requests", "4 responses without a request|3 responses without a request"),
        ("UPDATE attempts SET outcome = 'paid' WHERE id = 2", "1 attempts of an outcome that this package does not"),
    ],
)
def test_whatever_is_wrong_is_listed_and_ends_with_the_ledgers_exit_code(tmp_path, damage, said):
    ledger = filled(tmp_path)
    execute(ledger, damage)
    result = CliRunner().invoke(app, ["check", str(ledger)])
    assert isinstance(result.exception, LedgerError)
    assert any(part in result.output for part in said.split("|")), result.output
    assert "sha256:" in result.output


def test_a_call_that_was_bought_twice_is_found(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, (call("a"), Stored(b"1", 1, 1)), (call("a"), Stored(b"2", 1, 1)))
    result = CliRunner().invoke(app, ["check", str(path)])
    assert (
        f"1 answered attempts whose response is not there, or another attempt's:\n  {call('a').key} (attempt 2)"
        in result.output
    )


def test_a_long_list_is_cut_and_its_length_is_not(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, *[(Call(f"k{n}\x1b", "m", "{}", "s"), "HTTP 400") for n in range(30)])
    result = CliRunner().invoke(app, ["check", str(path)])
    assert "30 keys that are not the hash" in result.output
    assert "... and 10 more" in result.output
    assert "\x1b" not in result.output


def test_a_damaged_file_is_found_before_its_rows_are_read(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, *[(call(str(n)), Stored(b"x" * 1000, 1, 1)) for n in range(200)])
    data = bytearray(path.read_bytes())
    for page in range(4096 * 20, len(data), 4096 * 3):
        data[page : page + 100] = b"\xa5" * 100
    path.write_bytes(bytes(data))
    result = CliRunner().invoke(app, ["check", str(path)])
    assert isinstance(result.exception, LedgerError)
    assert "damaged" in result.output + str(result.exception)


def test_an_old_ledger_is_brought_up_to_date_by_the_command_that_the_error_names(tmp_path):
    path = tmp_path / "ledger.sqlite"
    version_1(path)
    with pytest.raises(LedgerError, match="ledger upgrade"):
        run("stats", path)
    assert "version 3" in run("upgrade", path)
    assert "21 requests" in run("stats", path)
    assert "21 requests" in run("stats", path)


def test_times_are_shown_in_utc(tmp_path):
    ledger = filled(tmp_path)
    sent = re.search(r"sent (\S+ \S+),", run("show", ledger, call("a").key))[1]
    assert sent.endswith("+00:00")
    assert 0 <= time.time() - datetime.fromisoformat(sent).timestamp() < 60
