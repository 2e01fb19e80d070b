"""Responses are joined by what their prompts say, and no row gets lost unseen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_distiller.errors import DataError
from reward_distiller.evaluate.policy.protocol import Task
from reward_distiller.evaluate.policy.responses import PolicyResponse, Responses, by_prompt, match, read_responses
from reward_distiller.files import write_rows
from reward_distiller.records import Prompt

TASKS = [Task(f"t{n}", Prompt.from_text(f"question {n}")) for n in range(4)]


def file(place, *rows):
    path = place / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(place, *rows):
    return read_responses(file(place, *rows))


@given(st.permutations(range(4)))
def test_no_order_of_rows_changes_what_answers_what(order):
    rows = [PolicyResponse(n, f"answer {at}", Prompt.from_text(f"question {at}")) for n, at in enumerate(order, 1)]
    found, balance = match(TASKS, Responses("r.jsonl", rows))
    assert found == {f"t{n}": f"answer {n}" for n in range(4)}
    assert balance.kept == 4


def test_text_messages_and_ids_are_ways_to_say_the_same(tmp_path):
    responses = read(
        tmp_path,
        {"prompt": [{"role": "user", "content": "question 2"}], "response": "two", "model": "m"},
        {"id": "t0", "response": [{"role": "assistant", "content": "zero"}], "model": "m"},
        {"prompt": "question 1", "response": "", "model": "m"},
    )
    found, _ = match(TASKS, responses)
    assert found == {"t0": "zero", "t1": "", "t2": "two"}
    assert responses.model == "m"


@pytest.mark.parametrize("name", ["r.json", "r.parquet"])
def test_other_files_are_read_as_well(tmp_path, name):
    rows = [{"prompt": "question 1", "response": "one", "id": None}, {"prompt": None, "response": "two", "id": "t2"}]
    if name.endswith("json"):
        (tmp_path / name).write_text(json.dumps(rows))
    else:
        write_rows(tmp_path / name, rows)
    assert match(TASKS, read_responses(tmp_path / name))[0] == {"t1": "one", "t2": "two"}


def test_rows_that_repeat_or_answer_nothing_are_counted(tmp_path):
    row = {"prompt": "question 1", "response": "one"}
    strange = [{"prompt": "Question 1", "response": "one"}, {"id": "t9", "response": "nine"}, {"id": 7, "response": ""}]
    found, balance = match(TASKS, read(tmp_path, row, row, *strange))
    assert found == {"t1": "one"}
    assert balance.reasons["dropped"] == {"repeats a row": 1, "answers nothing that the benchmark asks": 3}


def test_two_tasks_of_one_prompt_share_a_response_unless_the_id_tells_them_apart(tmp_path):
    twins = [Task("a", Prompt.from_text("q")), Task("b", Prompt.from_text("q"))]
    assert match(twins, read(tmp_path, {"prompt": "q", "response": "r"}))[0] == {"a": "r", "b": "r"}
    rows = [{"prompt": "q", "id": "b", "response": "rb"}, {"prompt": "q", "id": "a", "response": "ra"}]
    assert match(twins, read(tmp_path, *rows))[0] == {"a": "ra", "b": "rb"}


def test_two_responses_to_a_prompt_are_an_error_that_names_both_rows(tmp_path):
    responses = read(tmp_path, {"prompt": "question 1", "response": "one"}, {"id": "t1", "response": "other"})
    with pytest.raises(DataError, match=r"row 2, field 'prompt': another response to what row 1 answers"):
        match(TASKS, responses)
    responses = read(tmp_path, {"prompt": "q", "response": "one"}, {"prompt": "q", "response": "other"})
    with pytest.raises(DataError, match="row 2"):
        by_prompt(responses)


def test_a_file_that_answers_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no row answers a prompt"):
        match(TASKS, read(tmp_path, {"prompt": "something else", "response": "r"}))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "q"}], "row 1, field 'response': missing"),
        ([{"response": "r"}], "field 'prompt': missing, and there is no id"),
        ([{"prompt": "q", "response": 3}], "3, not text"),
        ([{"prompt": 3, "response": "r"}], "3, not text or a list"),
        ([{"prompt": [{"role": "assistant", "content": "q"}], "response": "r"}], "ends with a turn"),
        ([{"prompt": "q", "response": "r", "id": 1.5}], "neither text nor a whole number"),
        ([{"prompt": "q", "response": "r", "id": True}], "neither text nor a whole number"),
        ([{"prompt": "q", "response": "r", "id": ""}], "neither text nor a whole number"),
        ([{"prompt": "q", "response": "\ud800"}], "half a character"),
        (
            [{"prompt": "q", "response": "r", "model": "a"}, {"prompt": "p", "response": "r", "model": "b"}],
            "'a' and 'b'",
        ),
        ([{"prompt": "q", "response": "r", "model": "a"}, {"prompt": "p", "response": "r"}], "row 2, field 'model'"),
        ([["q", "r"]], "not an object"),
    ],
)
def test_rows_that_are_none_say_so(tmp_path, rows, said):
    with pytest.raises(DataError, match=said):
        read(tmp_path, *rows)


def test_pairs_need_prompts(tmp_path):
    with pytest.raises(DataError, match="row 2, field 'prompt': missing"):
        by_prompt(read(tmp_path, {"prompt": "q", "response": "r"}, {"id": "t1", "response": "r"}))
