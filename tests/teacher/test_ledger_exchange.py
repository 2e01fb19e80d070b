"""Answers out of a ledger and into one: nothing is lost or billed, and a file with one bad line brings none."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from helpers import fake, fake_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import call, counts, execute, fill, filled, run
from typer.testing import CliRunner

from reward_distiller import files
from reward_distiller.cli.ledger import app
from reward_distiller.errors import DataError, EndpointError, FileError, LedgerError
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.ledger import Ledger, Stored, request_key
from reward_distiller.teacher.ledger_exchange import export_answers, import_answers
from reward_distiller.teacher.questions import Answer, Question

REQUEST = build_request(fake(), [{"role": "user", "content": "hi"}], 0)
GOOD = {"request": REQUEST, "body": "good"}


def lines_of(path) -> list[dict]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write(path, *rows) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_a_line_for_each_answer_in_the_order_in_which_they_came(tmp_path, name):
    ledger = filled(tmp_path)
    assert run("export", ledger, tmp_path / name).startswith("3 answers")
    first, second, third = lines_of(tmp_path / name)
    assert first == {
        "key": call("a").key,
        "model": "teacher",
        "step": "score",
        "request": json.loads(call("a").request),
        "body": "answer a",
        "usage": {"input_tokens": 1_000_000, "output_tokens": 100_000},
    }
    assert second["body"] == "answer b"
    assert third["body_base64"] == base64.b64encode(b"\xff\xfe").decode()
    assert third["usage"] == {"input_tokens": None, "output_tokens": None}


@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(st.text(), st.binary(), st.text(min_size=1)), min_size=1, unique_by=lambda row: row[0]))
def test_what_was_exported_comes_in_whole_and_a_second_time_not_at_all(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("exchange")
    fill(folder / "a.sqlite", *[(call(text, step=step), Stored(body, 1, 1)) for text, body, step in rows])
    run("export", folder / "a.sqlite", folder / "a.jsonl")
    run("import", folder / "b.sqlite", folder / "a.jsonl")
    again = run("import", folder / "b.sqlite", folder / "a.jsonl")
    assert again.startswith(f"0 answers imported, {len(rows)} were there already")
    with Ledger.read(folder / "b.sqlite") as reader:
        for text, body, _ in rows:
            assert reader.get(call(text).key) == Stored(body, 0, 0)
    run("export", folder / "b.sqlite", folder / "b.jsonl.gz")
    bought = [{**line, "usage": None} for line in lines_of(folder / "a.jsonl")]
    assert lines_of(folder / "b.jsonl.gz") == bought
    run("check", folder / "b.sqlite")


def test_an_export_is_the_same_bytes_each_time_and_replaces_the_old_one(tmp_path):
    ledger = filled(tmp_path)
    out = tmp_path / "out.jsonl.gz"
    run("export", ledger, out)
    before = out.read_bytes()
    out.write_bytes(b"old")
    run("export", ledger, out)
    assert out.read_bytes() == before
    assert not list(tmp_path.glob(".*.partial"))


def test_an_export_over_the_ledger_itself_is_refused(tmp_path):
    ledger = filled(tmp_path)
    before = ledger.read_bytes()
    with pytest.raises(FileError, match=r"\.jsonl or \.jsonl\.gz"):
        run("export", ledger, ledger)
    assert ledger.read_bytes() == before


@pytest.mark.parametrize("damage", ["DELETE FROM requests", "UPDATE requests SET request = '{}'"])
def test_an_answer_whose_question_is_lost_stops_the_export_and_leaves_the_old_file(tmp_path, damage):
    ledger = filled(tmp_path)
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    execute(ledger, damage)
    with pytest.raises(LedgerError, match="is not the key of its request"):
        run("export", ledger, out)
    assert out.read_text() == "old"
    assert not list(tmp_path.glob(".*.partial"))


def test_a_persons_answers_are_read_by_a_run_and_cost_nothing(tmp_path):
    questions = [Question(str(n), [{"role": "user", "content": f"q{n}"}], str) for n in range(3)]
    rows = [{"request": build_request(fake(), q.messages, 0), "response": f"Anna ☃ {q.id}"} for q in questions[:2]]
    write(tmp_path / "in.jsonl", *rows)
    assert run("import", tmp_path / "ledger.sqlite", tmp_path / "in.jsonl").startswith("2 answers imported, 0 were")
    with fake_engine(tmp_path, lambda request: "bought") as (engine, transport):
        outcomes = engine.ask(fake(), "s", questions)
        spent = engine.spent["s", "teacher"]
    assert outcomes["0"] == Answer("Anna ☃ 0", "Anna ☃ 0")
    assert outcomes["2"] == Answer("bought", "bought")
    assert len(transport.asked) == engine.bought == 1
    assert (spent.cost.calls, spent.without_usage) == (3, 0)
    found = json.loads(run("stats", tmp_path / "ledger.sqlite", "--json"))
    by_step = {line["step"]: (line["committed"], line["imported"]) for line in found["lines"]}
    assert by_step == {"imported": (0, 2), "s": (1, 0)}
    assert (spent.cost.input_tokens, spent.cost.output_tokens) == tuple(
        found["total"][f"{side}_tokens"] for side in ("input", "output")
    )


def test_an_answer_that_is_there_stays_and_is_counted(tmp_path):
    path = tmp_path / "ledger.sqlite"
    fill(path, (call("a"), Stored(b"mine", 5, 5)), (call("b"), Stored(b"same", 5, 5)), (call("c"), "HTTP 500"))
    rows = [
        {"request": json.loads(call(text).request), "body": body}
        for text, body in (("a", "theirs"), ("b", "same"), ("c", "new"), ("c", "newer"))
    ]
    write(tmp_path / "in.jsonl", *rows)
    said = run("import", path, tmp_path / "in.jsonl")
    assert said.startswith("1 answers imported, 3 were there already and stay, 2 of them with another body")
    with Ledger.read(path) as reader:
        assert reader.get(call("a").key) == Stored(b"mine", 5, 5)
        assert reader.get(call("c").key) == Stored(b"new", 0, 0)


def test_an_import_waits_for_no_run(tmp_path):
    write(tmp_path / "in.jsonl", GOOD)
    with Ledger.open(tmp_path / "ledger.sqlite"), pytest.raises(LedgerError, match="another run"):
        run("import", tmp_path / "ledger.sqlite", tmp_path / "in.jsonl")


def request(**fields) -> dict:
    return {"request": {**REQUEST, **fields}, "body": "x"}


BAD = {
    "no JSON": ('{"request": ', "not valid JSON"),
    "no object": ("[1]", "a list, not an object"),
    "NaN": ('{"request": {"model": NaN}}', "NaN is not a number of JSON"),
    "infinite": (json.dumps(GOOD).replace('"sample": 0', '"sample": 0, "x": 1e999'), "'request': cannot be written"),
    "name twice": (json.dumps(GOOD)[:-1] + ', "body": "y"}', "a name stands twice"),
    "name twice within": (json.dumps(GOOD).replace('"sample": 0', '"sample": 0, "sample": 1'), "a name stands twice"),
    "deep": ("[" * 200_000 + "]" * 200_000, "not valid JSON"),
    "long number": (json.dumps(GOOD).replace('"sample": 0', f'"sample": {"9" * 5000}'), "not valid JSON"),
    "no request": ({"body": "x"}, "field 'request': missing"),
    "request no object": ({"request": "hi", "body": "x"}, "field 'request': missing, or not an object"),
    "no model": (request(model=None), "'request.model'"),
    "empty model": (request(model=""), "'request.model'"),
    "model no text": (request(model=7), "'request.model'"),
    "no messages": (request(messages=[]), "'request.messages'"),
    "message no object": (request(messages=["hi"]), "'request.messages'"),
    "no content": (request(messages=[{"role": "user"}]), "'request.messages'"),
    "no sample": (request(sample=None), "'request.sample'"),
    "sample true": (request(sample=True), "'request.sample'"),
    "sample negative": (request(sample=-1), "'request.sample'"),
    "wrong key": ({**GOOD, "key": "sha256:" + "0" * 64}, "field 'key'"),
    "key no text": ({**GOOD, "key": 7}, "field 'key'"),
    "key empty": ({**GOOD, "key": ""}, "field 'key'"),
    "another model": ({**GOOD, "model": "m"}, "field 'model'"),
    "step no text": ({**GOOD, "step": 7}, "field 'step'"),
    "no body": ({"request": REQUEST}, "field 'body': missing"),
    "two bodies": ({**GOOD, "response": "x"}, "body and response are both there"),
    "body no text": ({**GOOD, "body": {"choices": []}}, "field 'body': not text"),
    "no base64": ({"request": REQUEST, "body_base64": "*"}, "'body_base64': not base64"),
    "base64 no ASCII": ({"request": REQUEST, "body_base64": "é"}, "'body_base64': not base64"),
    "surrogate in request": (request(user="\ud800"), "'request': holds half a character"),
    "surrogate in message": (request(messages=[{"role": "user", "content": "\udfff"}]), "holds half a character"),
    "surrogate in model": (request(model="\ud800"), "holds half a character"),
    "surrogate in body": ({**GOOD, "body": "\ud800"}, "'body': holds half a character"),
    "surrogate in response": ({"request": REQUEST, "response": "\ud800"}, "'response': holds half a character"),
    "surrogate in step": ({**GOOD, "step": "\ud800"}, "'step': holds half a character"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_line_is_named_and_nothing_is_imported(tmp_path, name):
    bad, problem = BAD[name]
    write(tmp_path / "in.jsonl", request(user="first"), "", bad, request(user="last"))
    with pytest.raises(DataError) as caught:
        run("import", tmp_path / "ledger.sqlite", tmp_path / "in.jsonl")
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'in.jsonl'}, row 3")
    assert problem in said
    assert counts(tmp_path / "ledger.sqlite") == (0, 0, 0)


@pytest.mark.parametrize("depth", [100, 900, 950, 980, 2000])
def test_a_request_of_any_depth_is_refused_or_goes_in_and_out_again(tmp_path, depth):
    deep = json.dumps(GOOD).replace('"sample": 0', f'"sample": 0, "x": {"[" * depth}{"]" * depth}')
    write(tmp_path / "in.jsonl", deep)
    imported = CliRunner().invoke(app, ["import", str(tmp_path / "ledger.sqlite"), str(tmp_path / "in.jsonl")])
    if depth > 100 and imported.exception:
        assert isinstance(imported.exception, DataError)
        assert "row 1" in str(imported.exception)
        return
    run("show", tmp_path / "ledger.sqlite", "")
    run("export", tmp_path / "ledger.sqlite", tmp_path / "out.jsonl")
    assert "[" * depth in (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize("line", [b'{"request": "\xff"}', b"\xff\xfe\x00", b"\x00" * 100])
def test_bytes_that_are_no_text_are_named_too(tmp_path, line):
    (tmp_path / "in.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n" + line)
    with pytest.raises(DataError, match="row 2: not valid JSON"):
        run("import", tmp_path / "ledger.sqlite", tmp_path / "in.jsonl")
    assert counts(tmp_path / "ledger.sqlite") == (0, 0, 0)


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz"])
def test_a_huge_line_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "LONGEST_LINE", 10_000)
    text = json.dumps(GOOD) + "\n" + json.dumps({**GOOD, "body": "x" * 20_000}) + "\n"
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "wt") as file:
        file.write(text)
    with pytest.raises(DataError, match="row 2: the line has more than 10000 bytes"):
        run("import", tmp_path / "ledger.sqlite", tmp_path / name)
    assert counts(tmp_path / "ledger.sqlite") == (0, 0, 0)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "holds no line"),
        (b"\n\n", "holds no line"),
        (None, "cannot be read"),
        (b"\x1f\x8b torn", "cannot be read"),
    ],
)
def test_a_file_that_is_empty_missing_or_torn(tmp_path, content, problem):
    path = tmp_path / ("in.jsonl.gz" if content and content.startswith(b"\x1f") else "in.jsonl")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        run("import", tmp_path / "ledger.sqlite", path)


def test_a_mark_at_the_files_beginning_and_windows_line_ends_are_read_over(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n\r\n")
    assert run("import", tmp_path / "ledger.sqlite", tmp_path / "in.jsonl").startswith("1 answers imported")
    with Ledger.read(tmp_path / "ledger.sqlite") as reader:
        assert reader.get(request_key(REQUEST)) == Stored(b"good", 0, 0)


def test_the_arguments_the_other_way_round_harm_neither_file(tmp_path):
    ledger = filled(tmp_path)
    write(tmp_path / "in.jsonl", GOOD)
    before = (tmp_path / "in.jsonl").read_bytes(), ledger.read_bytes()
    with pytest.raises(LedgerError, match="not a ledger"):
        run("import", tmp_path / "in.jsonl", ledger)
    assert ((tmp_path / "in.jsonl").read_bytes(), ledger.read_bytes()) == before


def test_an_imported_body_that_is_no_completion_is_set_aside_by_a_run_like_any(tmp_path):
    write(tmp_path / "in.jsonl", {"request": REQUEST, "body": "<html>"})
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        assert import_answers(opened, tmp_path / "in.jsonl").added == 1
    with fake_engine(tmp_path, lambda request: EndpointError("must not be asked")) as (engine, _):
        outcome = engine.ask(fake(max_asks=1), "s", [Question("q", REQUEST["messages"], str)])["q"]
    assert "not a chat completion" in outcome.reason


def test_a_large_ledger_goes_out_and_in_without_filling_the_memory(tmp_path):
    import tracemalloc

    body = b"x" * 20_000
    fill(tmp_path / "a.sqlite", *[(call(str(n)), Stored(body, 1, 1)) for n in range(400)])
    tracemalloc.start()
    with Ledger.read(tmp_path / "a.sqlite") as reader:
        assert export_answers(reader, tmp_path / "a.jsonl") == 400
    with Ledger.open(tmp_path / "b.sqlite") as opened:
        import_answers(opened, tmp_path / "a.jsonl")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.jsonl").stat().st_size > 8e6
    assert most < 2e6
