"""Pairs cut out of judges' prompts by hand, and Prometheus' real files."""

from collections import Counter

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.prometheus import ALONE, BENCHMARK, UNCUT
from reward_distiller.evaluate.benchmarks.protocol import Example, Unused
from reward_distiller.evaluate.benchmarks.reading import load


def judge_prompt(instruction: str, response: str, reference: str = "###Reference Answer (Score 5):\nbest\n\n") -> str:
    task = "###Task Description:\nScore it.\n\n"
    body = f"###The instruction to evaluate:\n{instruction}\n\n###Response to evaluate:\n{response}\n\n"
    return f"{task}{body}{reference}###Score Rubrics:\n[Is it good?]\nScore 1: no\n\n###Feedback: "


def scored(source: str, scores: list[object], **changes: object) -> dict[str, object]:
    text = judge_prompt("Do it", f"by {source}")
    return {"idx": 1, "response_source": source, "instruction": text, "gpt4_score": scores, **changes}


def hhh(source: str = "helpful", instruction: str = "Hi", **changes: object) -> dict[str, object]:
    sides = {f"{side}_instruction": judge_prompt(instruction, side, "") for side in ("chosen", "rejected")}
    return {"source": source, **sides, **changes}


def test_each_two_of_different_scores_make_a_pair():
    rows = [scored("a", [4, 5, 4]), scored("b", [4, 4, 5]), scored("c", [5, 5, 5]), scored("d", [1], idx=2)]
    rows[3]["instruction"] = judge_prompt("Do that", "by d")
    made = read(BENCHMARK, rows, "vicuna_eval.json")
    assert [e.responses for e in made if isinstance(e, Example)] == [("by c", "by a"), ("by c", "by b")]
    assert made[-1] == Unused("vicuna_eval:2:d", ALONE)
    assert {e.prompt.messages[0].content for e in made if isinstance(e, Example)} == {"Do it"}


def test_what_cannot_be_cut_makes_no_example():
    twice = judge_prompt("Do it", "###Response to evaluate:\nthis")
    made = read(BENCHMARK, [scored("a", [1], instruction=twice), scored("b", [1], instruction="Score this"), hhh()])
    assert [item.reason for item in made if isinstance(item, Unused)] == [UNCUT, UNCUT]
    assert read(BENCHMARK, [hhh(chosen_instruction="?")]) == [Unused("hhh:1", UNCUT)]
    (other,) = read(BENCHMARK, [hhh(chosen_instruction=judge_prompt("Ho", "x"))])
    assert isinstance(other, Unused)


def test_a_transcript_becomes_a_conversation():
    (example,) = read(BENCHMARK, [hhh(instruction="Hi\n\nAssistant: Hello\n\nHuman: How?")])
    assert isinstance(example, Example)
    assert [m.role for m in example.prompt.messages] == ["user", "assistant", "user"]


def test_figures_by_hand():
    rows = [scored("a", [1]), scored("b", [2]), hhh(), hhh(), hhh("honest")]
    outcomes = answered(read(BENCHMARK, rows, "vicuna_eval.json"), [[1, 0], [0, 0], [1, 0], [0, 1]])
    assert values(BENCHMARK, outcomes) == pytest.approx(  # the pair of the two scored rows is the last
        {"hhh": 2 / 3, "hhh.helpful": 1 / 2, "hhh.honest": 1, "vicuna_eval": 0}
    )


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (scored("a", []), r"field 'gpt4_score': \[\] is no list of scores"),
        (scored("a", ["5"]), r"field 'gpt4_score': \['5'\] is no list"),
        (scored("a", [1], instruction=None), "field 'instruction': missing"),
        (scored("a", [1], idx=None), "field 'idx': missing"),
        (hhh("funny"), "field 'source': 'funny' is none of HHH's"),
        (hhh(rejected_instruction=None), "field 'rejected_instruction': missing"),
    ],
)
def test_malformed_rows_are_named(row, problem):
    with pytest.raises(DataError, match="row 2, " + problem):
        read(BENCHMARK, [hhh(), row])


def test_the_real_files():
    examples, balance = load(BENCHMARK, str(data("prometheus")))
    made = Counter(e.labels["part"] for e in examples)
    assert made["mt_bench_eval"] == 2  # hardly two responses follow the same first turn
    assert [made[f"hhh.{source}"] for source in ("helpful", "honest", "harmless", "other")] == [59, 61, 58, 43]
    assert balance.line() == "load prometheus: in 861 rows = kept 521 + dropped 340"
    assert balance.as_dict()["reasons"] == {"dropped": {ALONE: 340}}
    assert made["vicuna_eval"] > 300


def test_no_outcome_gives_no_figure():
    assert values(BENCHMARK, []) == {}
