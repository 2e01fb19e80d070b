"""HH-RLHF's transcripts as conversations, rows that make no example, and its real file."""

import gzip
import json

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.hh_rlhf import BENCHMARK, turns
from reward_distiller.evaluate.benchmarks.protocol import Example, Unused
from reward_distiller.evaluate.benchmarks.reading import load

START = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: A\n\nquestion: which?"


def row(chosen: str = "This", rejected: str = "That", start: str = START) -> dict[str, str]:
    return {"chosen": f"{start}\n\nAssistant: {chosen}", "rejected": f"{start}\n\nAssistant: {rejected}"}


def test_a_transcript_becomes_a_conversation():
    (example,) = read(BENCHMARK, [row()])
    assert isinstance(example, Example)
    assert [(m.role, m.content) for m in example.prompt.messages] == [
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "A\n\nquestion: which?"),
    ]
    assert example.responses == ("This", "That")


@pytest.mark.parametrize("text", ["Hello", "\n\nHuman: a", "\n\nAssistant: a", START + "\n\nHuman: b\n\nAssistant: c"])
def test_turns_that_do_not_alternate(text):
    assert turns(text) is None


def test_rows_that_make_no_example_are_counted():
    made = read(BENCHMARK, [row(), {**row(), "rejected": "\n\nHuman: Ho\n\nAssistant: No"}, row(start="Hello")])
    assert [item.reason for item in made if isinstance(item, Unused)] == [
        "the two responses follow different conversations",
        "its turns do not alternate",
    ]


def test_subsets_by_hand(tmp_path):
    for subset, rows in {"harmless-base": [row()], "helpful-online": [row(), row("x"), row("y")]}.items():
        (tmp_path / subset).mkdir()
        with gzip.open(tmp_path / subset / "test.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(r) + "\n" for r in rows)
    examples, _ = load(BENCHMARK, str(tmp_path))
    found = values(BENCHMARK, answered(examples, [[1, 0], [1, 0], [0, 1], [1, 1]]))
    assert found == pytest.approx({"overall": 1 / 2, "harmless-base": 1, "helpful-online": 1 / 3})


def test_without_a_known_subset_there_is_the_overall_alone():
    assert values(BENCHMARK, answered(read(BENCHMARK, [row()]), [[1, 0]])) == {"overall": 1}


@pytest.mark.parametrize(("change", "problem"), [({"chosen": None}, "missing"), ({"chosen": 3}, "3, not text")])
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match=f"row 2, field 'chosen': {problem}"):
        read(BENCHMARK, [row(), {**row(), **change}])


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("hh_rlhf")))
    assert (balance.as_dict()["in"], balance.kept, len(examples)) == (1156, 1152, 1152)
    assert {e.labels["subset"] for e in examples} == {"harmless-base"}
    assert all(e.prompt.messages[-1].role == "user" for e in examples)


def test_no_outcome_gives_no_figure():
    assert values(BENCHMARK, []) == {}
