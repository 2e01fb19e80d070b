"""Loading: every layout in use is read; a malformed row names file, row, field and mend; a useless one is counted."""

from __future__ import annotations

import gzip
import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import labeled

from reward_distiller.config import DataSource
from reward_distiller.config import TestbedData as WorldRows  # pytest would collect a class called Test...
from reward_distiller.construct.load import load_pairs, load_prompts
from reward_distiller.construct.pairs import read_pairs, write_pairs
from reward_distiller.errors import ConfigError, DataError, MissingExtra
from reward_distiller.files import write_rows
from reward_distiller.records import Pair
from reward_distiller.rows import rows_of

ROWS = [
    {"prompt": "one ?", "chosen": "yes", "rejected": "no", "chosen_score": 8, "rejected_score": 2.5},
    {"prompt": "two ? ☃", "chosen": "ja\n", "rejected": "nein", "chosen_score": 6, "rejected_score": 5.0},
]


def pairs_of(*rows, scored=False, columns=None, where="data.jsonl"):
    return load_pairs(where, enumerate(rows, 1), columns or {}, scored=scored)


def prompts_of(*rows, columns=None):
    return load_prompts("data.jsonl", enumerate(rows, 1), columns or {})


def pair_row(**changes):
    return {**ROWS[0], **changes}


# -- files ------------------------------------------------------------------------------------------


def write(path, rows):
    if path.name.endswith(".json.gz"):
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8-sig")  # with a byte order mark, as Windows writes
    elif path.suffix == ".ndjson":
        path.write_text("\r\n\r\n".join(json.dumps(row) for row in rows) + "\r\n")
    else:
        write_rows(path, rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.parquet", "a.jsonl.gz", "a.json.gz"])
def test_every_format_gives_the_same_pairs(tmp_path, name):
    write(tmp_path / name, ROWS)
    where, rows = rows_of(DataSource(path=str(tmp_path / name)))
    assert where.endswith(name)
    pairs, balance = load_pairs(where, rows, {}, scored=True)
    assert [(p.prompt.messages[0].content, p.chosen, p.rejected, p.margin) for p in pairs] == [
        ("one ?", "yes", "no", 5.5),
        ("two ? ☃", "ja\n", "nein", 1.0),
    ]
    assert balance.as_dict() | {"kept": 2, "in": 2} == balance.as_dict()


def test_the_data_folder_is_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("REWARD_DISTILLER_DATA", str(tmp_path))
    write(tmp_path / "a.jsonl", ROWS)
    assert len(list(rows_of(DataSource(path="$REWARD_DISTILLER_DATA/a.jsonl"))[1])) == 2


def test_a_limit_reads_no_row_beyond_it(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(ROWS[0])}\nthis is no JSON\n")
    assert len(list(rows_of(DataSource(path=str(tmp_path / "a.jsonl"), limit=1))[1])) == 1
    with pytest.raises(DataError, match="row 2"):
        list(rows_of(DataSource(path=str(tmp_path / "a.jsonl"), limit=2))[1])


def test_sources_that_are_not_at_hand(monkeypatch):
    with pytest.raises(ConfigError, match="testbed"):
        rows_of(DataSource(testbed=WorldRows(count=1)))
    assert rows_of(DataSource(testbed=WorldRows(count=1)), [(1, {})])[0] == "testbed"
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"reward-distiller\[hub\]"):
        list(rows_of(DataSource(hub="org/name"))[1])


BAD_FILES = {
    "none.jsonl": None,
    "empty.jsonl": b"",
    "blank.jsonl": b"\n \n",
    "list.jsonl": b'[1]\n{"prompt": "x"}',
    "text.jsonl": b'{"prompt": "x"}\nhello',
    "half.jsonl": b'{"prompt": "x',
    "latin.jsonl": b'{"prompt": "\xe9"}',
    "long.jsonl": b'{"prompt": ' + b"9" * 5000 + b"}",
    "deep.json": b"[" * 100_000,
    "object.json": b'{"prompt": "x"}',
    "numbers.json": b"[1, 2]",
    "nothing.json": b"[]",
    "not.parquet": b"PAR1 no, it is not PAR1",
    "rows.csv": b"prompt\nx",
    "rows.tar.gz": b"x",
    "not.jsonl.gz": b'{"prompt": "x"}',
    "cut.jsonl.gz": gzip.compress(b'{"prompt": "x"}' * 100)[:-10],
    "flipped.jsonl.gz": gzip.compress(b"")[:10] + b"\xff" * 20,
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    if BAD_FILES[name] is not None:
        (tmp_path / name).write_bytes(BAD_FILES[name])
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load_prompts(*rows_of(DataSource(path=str(tmp_path / name))), {})


def test_a_parquet_file_damaged_inside_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\x02\0\0\0"), pa.py_buffer(b"\xff\xff"))
    pq.write_table(pa.table({"prompt": text}), path)
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(rows_of(DataSource(path=str(path)))[1])
    write_rows(path, [{"prompt": f"prompt {n} {'x' * n}"} for n in range(1000)])
    data = bytearray(path.read_bytes())
    data[10 : len(data) // 2] = b"\xff" * (len(data) // 2 - 10)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.parquet"):
        list(rows_of(DataSource(path=str(path)))[1])


def test_a_row_keeps_the_number_of_its_line(tmp_path):
    (tmp_path / "a.jsonl").write_text(f"\n\n{json.dumps(ROWS[0])}\n\n{{}}\n")
    where, rows = rows_of(DataSource(path=str(tmp_path / "a.jsonl")))
    with pytest.raises(DataError, match=r"a\.jsonl, row 5, field 'prompt': missing"):
        load_prompts(where, rows, {})


# -- layouts ------------------------------------------------------------------------------------------

CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello"},
    {"role": "user", "content": "and now ?"},
]
SHAREGPT = [
    {"from": "system", "value": "be brief"},
    {"from": "human", "value": "hi"},
    {"from": "gpt", "value": "hello"},
    {"from": "human", "value": "and now ?"},
]


def test_one_conversation_has_one_id_in_every_layout():
    extra = [{**m, "name": None, "tool_calls": None} for m in CHAT]  # as Parquet fills up structs
    prompts, balance = prompts_of(
        {"prompt": CHAT},
        {"prompt": SHAREGPT},
        {"prompt": extra},
        {"prompt": CHAT[1:], "system": "be brief"},
        {"prompt": SHAREGPT, "system": "is there already"},
    )
    assert len(prompts) == 1
    assert prompts[0].as_dicts() == CHAT
    assert balance.as_dict()["reasons"] == {"dropped": {"duplicate prompt": 4}}


def test_a_blank_system_prompt_is_none():
    (prompt,), _ = prompts_of({"prompt": "hi", "system": " "}, {"prompt": "hi"}, {"prompt": "hi", "system": None})
    assert prompt.as_dicts() == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (pair_row(), {}),
        # TRL, conversational with an explicit prompt
        (
            pair_row(
                prompt=[{"role": "user", "content": "one ?"}],
                chosen=[{"role": "assistant", "content": "yes"}],
                rejected=[{"role": "assistant", "content": "no"}],
            ),
            {},
        ),
        # UltraFeedback: a prompt beside whole conversations
        (
            pair_row(
                chosen=[{"role": "user", "content": "one ?"}, {"role": "assistant", "content": "yes"}],
                rejected=[{"role": "user", "content": "one ?"}, {"role": "assistant", "content": "no"}],
            ),
            {},
        ),
        # ShareGPT's preference layout
        (
            {
                "conversations": [{"from": "human", "value": "one ?"}],
                "chosen": {"from": "gpt", "value": "yes"},
                "rejected": {"from": "gpt", "value": "no"},
                "chosen_score": 8,
                "rejected_score": 2.5,
            },
            {"prompt": "conversations", "chosen": "chosen.value", "rejected": "rejected.value"},
        ),
        (pair_row(chosen=[{"from": "gpt", "value": "yes"}], rejected=[{"from": "gpt", "value": "no"}]), {}),
        # nested objects
        (
            {
                "meta": {"q": "one ?"},
                "good": {"text": "yes", "s": {"overall": 8.0}},
                "bad": {"text": "no", "s": {"overall": 2.5}},
            },
            {
                "prompt": "meta.q",
                "chosen": "good.text",
                "rejected": "bad.text",
                "chosen_score": "good.s.overall",
                "rejected_score": "bad.s.overall",
            },
        ),
    ],
)
def test_one_pair_has_one_id_in_every_layout(row, columns):
    (pair,), _ = pairs_of(row, columns=columns, scored=True)
    (plain,), _ = pairs_of(ROWS[0])
    assert pair == plain
    assert (pair.source, pair.margin, pair.teacher_response) == ("labeled", 5.5, None)


def test_what_else_a_row_tells_is_kept():
    row = pair_row(
        teacher_response="si", source="refined", provenance={"a": [1, {"b": None}]}, chosen_model="x", rejected_model=""
    )
    (pair,), _ = pairs_of(row)
    assert (pair.teacher_response, pair.source) == ("si", "refined")
    assert pair.provenance == {"a": [1, {"b": None}], "chosen_model": "x"}


def test_what_the_teacher_said_of_each_response_is_kept():
    row = pair_row(
        chosen_critique="right",
        rejected_critique=" \n",  # says nothing
        chosen_attributes={"honesty": 7, "depth": 2.5, "humour": None},  # as Parquet fills up structs
        rejected_attributes=None,
        source="rewritten",
    )
    (pair,), _ = pairs_of(row)
    assert (pair.chosen_critique, pair.rejected_critique, pair.source) == ("right", None, "rewritten")
    assert (pair.chosen_attributes, pair.rejected_attributes) == ({"honesty": 7.0, "depth": 2.5}, None)


def test_pairs_that_we_write_come_back_with_all_they_hold(tmp_path):
    pair = labeled(
        "one ?",
        "yes",
        "no",
        teacher_response="si",
        chosen_critique="right\n☃",
        rejected_critique="wrong",
        chosen_attributes={"honesty": 7.0, "depth": 2.5},
        rejected_attributes={"honesty": 1.0, "depth": 10.0},
    )
    bare = Pair.of(pair.prompt, "a", "b", "rewritten", chosen_score=None, rejected_score=None)
    write_pairs(tmp_path / "pairs.jsonl", [pair, bare])
    assert read_pairs(tmp_path / "pairs.jsonl", scored=False) == [pair, bare]


def test_scores_may_be_missing_where_no_method_reads_them():
    (pair,), _ = pairs_of({"prompt": "x", "chosen": "a", "rejected": "b"})
    assert pair.margin is None


# -- malformed rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "missing"),
        (7, "7, not text or a list"),
        ({"role": "user", "content": "x"}, "an object"),
        ([], "a list, not text"),
        (["x"], "not a message"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": None}], "content"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "content"),
        ([{"role": "tool", "content": "x"}], "role"),
        ([{"from": "human", "value": 1}], "content"),
        ([{"from": ["human"], "value": "x"}], "role"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "ends with a turn of 'assistant'"),
        ([{"role": "system", "content": "x"}], "ends with a turn of 'system'"),
        ("\ud800 half", "half a character"),
        ([{"role": "user", "content": "\udfff"}], "half a character"),
    ],
)
def test_a_malformed_prompt(value, problem):
    for load in (prompts_of, pairs_of):
        with pytest.raises(DataError) as caught:
            load(ROWS[0], pair_row(prompt=value))
        assert "data.jsonl, row 2, field 'prompt'" in str(caught.value)
        assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("chosen", None, "missing"),
        ("chosen", 7, "7, not text"),
        ("chosen", {"role": "assistant", "content": "x"}, "an object, not text"),
        ("rejected", [], "a list, not text"),
        ("rejected", ["x"], "a list, not text"),
        ("rejected", [{"role": "assistant", "content": None}], "not text"),
        ("rejected", [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}], "turn of 'user'"),
        ("rejected", "\ud800", "half a character"),
        ("chosen_score", "8", "is not a score"),
        ("chosen_score", True, "is not a score"),
        ("rejected_score", float("nan"), "is not a score"),
        ("rejected_score", float("-inf"), "is not a score"),
        ("rejected_score", 10**400, "is not a score"),
        ("teacher_response", 7, "7, not text"),
        ("teacher_response", ["x"], "a list, not text"),
        ("teacher_response", "\ud800", "half a character"),
        ("chosen_critique", 7, "7, not text"),
        ("rejected_critique", ["x"], "a list, not text"),
        ("rejected_critique", "\ud800", "half a character"),
        ("chosen_attributes", [7], "a list, not an object of numbers"),
        ("chosen_attributes", "honesty: 7", "not an object of numbers"),
        ("rejected_attributes", {"honesty": "7"}, "is not a score"),
        ("rejected_attributes", {"honesty": True}, "is not a score"),
        ("rejected_attributes", {"honesty": float("nan")}, "is not a score"),
        ("rejected_attributes", {"\ud800": 7}, "half a character"),
        ("chosen_model", 7, "7, not text"),
        ("system", ["be brief"], "a list, not text"),
        ("system", "\ud800", "half a character"),
        ("provenance", {"a": float("nan")}, "JSON"),
        ("provenance", {"a": "\ud800"}, "JSON"),
        ("provenance", {"a": datetime(2026, 1, 1)}, "JSON"),
        ("provenance", {"a": b"x"}, "JSON"),
    ],
)
def test_a_malformed_pair(field, value, problem):
    with pytest.raises(DataError) as caught:
        pairs_of(ROWS[1], pair_row(**{field: value}))
    assert f"data.jsonl, row 2, field '{field}'" in str(caught.value)
    assert problem in str(caught.value)


def test_recorded_scores_must_be_there():
    with pytest.raises(DataError, match=r"field 'rejected_score': missing.*columns\.rejected_score=THEIR_COLUMN"):
        pairs_of(pair_row(rejected_score=None), scored=True)


def test_a_mapped_column_that_is_missing_is_named_as_theirs():
    with pytest.raises(DataError, match=r"field 'good\.text'.*columns\.chosen=THEIR_COLUMN"):
        pairs_of({"prompt": "x", "good": "no object"}, columns={"chosen": "good.text"})


# -- useless rows ----------------------------------------------------------------------------------------


def test_useless_rows_are_dropped_each_for_its_reason():
    pairs, balance = pairs_of(
        ROWS[0],
        pair_row(prompt=" "),
        pair_row(prompt=[{"role": "system", "content": "x"}, {"role": "user", "content": "\n"}]),
        pair_row(chosen=" \n"),
        pair_row(rejected=""),
        pair_row(rejected="yes"),
        pair_row(chosen_score=1),  # the same pair, scored otherwise: the first one counts
        pair_row(chosen="no", rejected="yes"),
    )
    assert [(p.chosen, p.rejected, p.chosen_score) for p in pairs] == [("yes", "no", 8.0), ("no", "yes", 8.0)]
    found = balance.as_dict()
    assert (found["in"], found["kept"], found["dropped"]) == (8, 2, 6)
    assert found["reasons"]["dropped"] == {
        "duplicate pair": 1,
        "empty prompt": 2,
        "empty response": 2,
        "equal responses": 1,
    }
    assert found["examples"]["dropped: empty response"] == ["row 4", "row 5"]


def test_prompts_keep_the_order_of_the_file():
    prompts, balance = prompts_of(*({"prompt": t} for t in ("b", "a", "", "b", "c")))
    assert [p.messages[0].content for p in prompts] == ["b", "a", "c"]
    assert balance.line() == "load prompts: in 5 rows = kept 3 + dropped 2"
