"""RMB's four parts and their mean by hand, its folders, and its real files."""

import json

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.benchmarks.reading import load
from reward_distiller.evaluate.benchmarks.rmb import BENCHMARK


def pair(number: int, category: str | None = "Helpfulness/Chat/Discussion", **changes: object) -> dict[str, object]:
    turn = {"role": "user", "content": f"question {number}", "language": "English"}
    path = {} if category is None else {"category_path": f"Pairwise_set/{category}"}
    sides = {"chosen": {"answer": "better", "llm_name": "a"}, "reject": {"answer": "worse", "llm_name": "b"}}
    return {"pair_uid": str(number), "conversation_input": [turn], **sides, **path, **changes}


def listed(number: int, category: str, losers: int = 2, **changes: object) -> dict[str, object]:
    row = pair(number) | {
        "bon_uid": str(number),
        "bon_best": {"answer": "best"},
        "category_path": f"BoN_set/{category}",
    }
    row["loser_list"] = [{"answer": f"loser {i}"} for i in range(losers)]
    return {name: value for name, value in row.items() if name not in ("pair_uid", "chosen", "reject")} | changes


def test_parts_weigh_alike_and_a_list_is_won_against_all():
    rows = [
        pair(1),
        pair(2, "Helpfulness/Code/Documentation"),
        pair(3),
        listed(4, "Helpfulness/Chat/Discussion"),
        listed(5, "Helpfulness/Chat/Discussion", losers=3),
        pair(6, "Harmlessness/S1"),
        listed(7, "Harmlessness/multi"),
    ]
    rewards = [[1, 0], [0, 1], [1, 0], [2, 1, 0], [2, 1, 0, 2], [1, 1], [1, 0, 0]]
    outcomes = answered(read(BENCHMARK, rows), rewards)
    found = values(BENCHMARK, outcomes)
    parts = {"helpfulness.pairwise": 2 / 3, "helpfulness.bon": 1 / 2, "harmlessness.pairwise": 0, "harmlessness.bon": 1}
    assert {name: found[name] for name in parts} == pytest.approx(parts)
    assert found["overall"] == pytest.approx(sum(parts.values()) / 4)
    assert (found["helpfulness.pairwise.Chat"], found["helpfulness.pairwise.Code"]) == (1, 0)
    assert BENCHMARK.metrics(outcomes).notes == []


def test_parts_that_are_missing_are_said():
    outcomes = answered(read(BENCHMARK, [pair(1), listed(2, "Harmlessness/S1")]), [[1, 0], [0, 1, 1]])
    assert values(BENCHMARK, outcomes)["overall"] == 0.5
    (note,) = BENCHMARK.metrics(outcomes).notes
    assert note.startswith("parts not there: helpfulness.bon, harmlessness.pairwise; overall is over helpfulness.pair")


def test_folders_say_the_category(tmp_path):
    for folder in ("Pairwise_set/Helpfulness/Closed QA", "Pairwise_set/Harmlessness"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "S1.json").write_text(json.dumps([pair(1, None)]))
    examples, _ = load(BENCHMARK, str(tmp_path))
    assert sorted(e.labels["task"] for e in examples) == ["harmlessness.pairwise.S1", "helpfulness.pairwise.Closed QA"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (pair(2, None), "field 'category_path': no Helpfulness or Harmlessness"),
        (pair(2, chosen={"text": "?"}), "field 'chosen.answer': missing"),
        (pair(2, conversation_input=[]), "field 'conversation_input': a list"),
        (listed(2, "Harmlessness/S1", loser_list=[]), "field 'loser_list': not a list of responses"),
        (listed(2, "Harmlessness/S1", loser_list=[{"answer": "?"}, {}]), "field 'loser_list.1.answer': missing"),
        (listed(2, "Harmlessness/S1", bon_uid=None), "field 'bon_uid': missing"),
    ],
)
def test_malformed_rows_are_named(row, problem):
    with pytest.raises(DataError) as caught:
        read(BENCHMARK, [pair(1), row])
    assert "row 2, " + problem in str(caught.value)


def test_the_real_files():
    examples, balance = load(BENCHMARK, str(data("rmb")))
    assert balance.line() == "load rmb: in 726 rows = kept 726"
    parts = [e.labels["part"] for e in examples]
    assert [parts.count(p) for p in ("helpfulness.pairwise", "helpfulness.bon", "harmlessness.bon")] == [441, 91, 194]
    assert all(isinstance(e, Example) and e.right == 1 for e in examples)


def test_no_outcome_gives_no_figure():
    assert values(BENCHMARK, []) == {}
