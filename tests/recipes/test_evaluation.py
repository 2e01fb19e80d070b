"""Evaluating scorers: what is kept, what a cut-off run goes on from, what two scorers differ by, what has no answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.answers import Answer, Comparisons, NoAnswer, Rewards
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.trivial import Length, Random
from reward_distiller.recipes import answering
from reward_distiller.recipes.answering import Loaded, load_all
from reward_distiller.recipes.evaluation import evaluate


class Counting:
    """The length of a response, with a count of what was asked; stops after so many examples."""

    def __init__(self, name: str = "counting", dies_after: int | None = None, silent: Sequence[str] = ()):
        self.name, self.dies_after, self.silent, self.asked = name, dies_after, silent, 0

    @property
    def identity(self) -> dict[str, Any]:
        return {"test": self.name}

    def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
        answers: list[Answer] = []
        for example in examples:
            if self.asked == self.dies_after:
                raise KeyboardInterrupt
            self.asked += 1
            silent = example.id in self.silent
            answers.append(NoAnswer("too long") if silent else Rewards(tuple(map(float, map(len, example.responses)))))
        return answers


@pytest.fixture
def rm_bench(tmp_path: Path) -> Loaded:
    rows = [
        {
            "id": number,
            "prompt": f"question {number}",
            "domain": "chat" if number % 2 else "code",
            "chosen": ["a" * (number + 1), "a" * (number + 4), "a" * (number + 9)],
            "rejected": ["b" * 3, "b" * 5, "b" * 9],
        }
        for number in range(10)
    ]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    (loaded,) = load_all([(benchmark_named("rm_bench"), str(file))])
    return loaded


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_figure_has_an_interval_and_every_example_its_answer(rm_bench: Loaded, tmp_path: Path) -> None:
    results = evaluate(Length(), [rm_bench], tmp_path / "out")
    found = results["benchmarks"]["rm_bench"]
    # the concise chosen response of question n has n + 1 characters: above 3 from n = 3 on, above 5 from 5, 9 from 9
    assert found["metrics"]["matrix.concise.concise"]["value"] == pytest.approx(70.0)
    assert found["metrics"]["matrix.concise.markdown"]["value"] == pytest.approx(10.0)
    for figure in found["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["n"] == 10 or figure["n"] == 5
    assert found["rows"]["in"] == found["rows"]["kept"] == 10
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    rows = [json.loads(line) for line in (tmp_path / "out" / "answers" / "rm_bench.jsonl").read_text().splitlines()]
    assert [row["example"] for row in rows] == [example.id for example in rm_bench.examples]
    assert rows[2]["rewards"] == [3, 6, 11, 3, 5, 9]
    assert "| hard |" in (tmp_path / "out" / "table.md").read_text()


def test_a_cut_off_run_goes_on_and_ends_in_the_same_bytes(
    rm_bench: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "CHUNK", 2)
    evaluate(Counting(), [rm_bench], tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(Counting(dies_after=5), [rm_bench], tmp_path / "cut")
    file = tmp_path / "cut" / "answers" / "rm_bench.jsonl"
    file.write_bytes(file.read_bytes() + b'{"key": "torn", "rew')
    again = Counting()
    evaluate(again, [rm_bench], tmp_path / "cut")
    assert again.asked == 10 - 4  # two chunks of two were written
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    evaluate(again, [rm_bench], tmp_path / "cut")
    assert again.asked == 6
    other = Counting("another scorer")
    evaluate(other, [rm_bench], tmp_path / "cut")
    assert other.asked == 10


def test_the_difference_is_on_what_both_have_answered(rm_bench: Loaded, tmp_path: Path) -> None:
    silent = [rm_bench.examples[0].id, rm_bench.examples[3].id]
    results = evaluate(Length(), [rm_bench], tmp_path / "out", against=Counting(silent=silent))
    found = results["benchmarks"]["rm_bench"]
    assert found["rows"]["no_answer"] == {}
    assert {change["value"] for change in found["difference"].values()} == {0.0}
    assert found["difference"]["average"]["n"] == 8
    assert found["difference"]["average"]["p"] == 1.0
    assert found["metrics"]["average"]["n"] == 10
    mine = evaluate(Counting(silent=silent), [rm_bench], tmp_path / "mine")["benchmarks"]["rm_bench"]
    assert mine["rows"]["no_answer"] == {"too long": 2}
    assert mine["metrics"]["average"]["n"] == 8
    assert "2 without an answer (too long)" in (tmp_path / "mine" / "table.md").read_text()
    changed = evaluate(Length(), [rm_bench], tmp_path / "random", against=Random())["benchmarks"]["rm_bench"]
    assert "p |" in (tmp_path / "random" / "table.md").read_text()
    assert 0 < changed["difference"]["average"]["p"] <= 1


def test_nothing_answered_is_said(rm_bench: Loaded, tmp_path: Path) -> None:
    nobody = Counting(silent=[example.id for example in rm_bench.examples])
    found = evaluate(nobody, [rm_bench], tmp_path / "out")["benchmarks"]["rm_bench"]
    assert found["metrics"] == {}
    assert found["notes"] == ["no example has an answer"]


def test_comparisons_count_in_both_orders(rm_bench: Loaded, tmp_path: Path) -> None:
    class Judge(Counting):
        """Prefers what it sees first by 1, and the longer one by 2."""

        def answer(self, examples: Sequence[Example], advance: Callable[[], None]) -> list[Answer]:
            def margin(example: Example, i: int, j: int) -> float:
                first, second = len(example.responses[i]), len(example.responses[j])
                return 1 + 2 * ((first > second) - (first < second))

            return [
                Comparisons(tuple((i, j, margin(e, i, j)) for a, b in e.comparisons for i, j in ((a, b), (b, a))))
                for e in examples
            ]

    by_length = evaluate(Length(), [rm_bench], tmp_path / "length")["benchmarks"]["rm_bench"]["metrics"]
    judged = evaluate(Judge(), [rm_bench], tmp_path / "judge")["benchmarks"]["rm_bench"]["metrics"]
    assert {name: judged[name] for name in by_length} == by_length  # what it sees first cancels out


def test_what_scorers_were_billed_for_stands_in_the_results(rm_bench: Loaded, tmp_path: Path) -> None:
    class Paid(Counting):
        def cost(self) -> list[dict[str, Any]]:
            return [{"step": "judge", "model": self.name, "money": 3.0}]

    results = evaluate(Paid("ours"), [rm_bench], tmp_path / "out", against=Paid("theirs"))
    assert [row["model"] for row in results["cost"]] == ["ours", "theirs"]
    assert evaluate(Length(), [rm_bench], tmp_path / "free")["cost"] == []


def test_a_benchmark_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        load_all([(benchmark_named("rm_bench"), "a"), (benchmark_named("rm_bench"), "b")])
