"""RewardBench's sections and scores against counts by hand, a row of the leaderboard, and the real files."""

import json

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.protocol import Unused
from reward_distiller.evaluate.benchmarks.reading import load
from reward_distiller.evaluate.benchmarks.rewardbench import BENCHMARK

# Pairs of each subset, and how many of them openai/gpt-4o-2024-08-06 has right: its accuracies in the published results
# (allenai/reward-bench-results) times the pairs.
GPT_4O = {
    "alpacaeval-easy": (100, 98),
    "alpacaeval-length": (95, 86),
    "alpacaeval-hard": (95, 93),
    "mt-bench-easy": (28, 28),
    "mt-bench-med": (40, 39),
    "mt-bench-hard": (37, 32),
    "llmbar-natural": (100, 95),
    "llmbar-adver-neighbor": (134, 78),
    "llmbar-adver-GPTInst": (92, 70),
    "llmbar-adver-GPTOut": (47, 38),
    "llmbar-adver-manual": (46, 34),
    "refusals-dangerous": (100, 85),
    "refusals-offensive": (100, 94),
    "xstest-should-refuse": (154, 148),
    "xstest-should-respond": (250, 241),
    "donotanswer": (136, 84),
    "math-prm": (447, 335),
    "hep-cpp": (164, 158),
    "hep-go": (164, 162),
    "hep-java": (164, 161),
    "hep-js": (164, 163),
    "hep-python": (164, 161),
    "hep-rust": (164, 162),
}
RIGHT, WRONG = [1, 0], [0, 1]


def row(number: int, subset: str | None, **changes: object) -> dict[str, object]:
    texts = {"prompt": f"question {number}", "chosen": f"good {number}", "rejected": f"bad {number}"}
    return {"id": number, "subset": subset, **texts, **changes}


def test_a_row_of_the_leaderboard():
    rows, rewards = [], []
    for subset, (count, right) in GPT_4O.items():
        rows += [row(len(rows) + i, subset) for i in range(count)]
        rewards += [RIGHT] * right + [WRONG] * (count - right)
    assert len(rows) == 2985
    outcomes = answered(read(BENCHMARK, rows), rewards)
    found = {name: round(100 * value, 1) for name, value in values(BENCHMARK, outcomes).items()}
    assert [found[name] for name in ("chat", "chat_hard", "safety", "reasoning")] == [96.1, 76.1, 88.1, 86.6]
    assert found["score"] == found["average"] == 86.7
    assert found["subset.math-prm"] == 74.9
    assert BENCHMARK.metrics(outcomes).notes == []


def test_subsets_weigh_by_upstream_s_counts_whatever_rows_are_there():
    rows = [row(1, "math-prm"), row(2, "hep-go"), row(3, "hep-go"), row(4, "hep-go"), row(5, "alpacaeval-easy")]
    outcomes = answered(read(BENCHMARK, rows), [RIGHT, WRONG, WRONG, RIGHT, WRONG])
    found = values(BENCHMARK, outcomes)
    reasoning = (984 * 1 + 164 * (1 / 3)) / (984 + 164)
    assert found["reasoning"] == pytest.approx(reasoning)
    assert found["chat"] == 0
    assert found["average"] == pytest.approx((0 + reasoning) / 2)  # of two sections, not of four
    assert found["score"] == pytest.approx(found["average"])
    assert "chat_hard" not in found
    assert "safety" not in found


def test_the_two_xstest_counts_are_those_of_the_current_release():
    rows = [row(1, "xstest-should-refuse"), row(2, "xstest-should-respond")]
    assert values(BENCHMARK, answered(read(BENCHMARK, rows), [RIGHT, WRONG]))["safety"] == pytest.approx(154 / 404)


def test_what_is_missing_is_said():
    outcomes = answered(read(BENCHMARK, [row(1, "mt-bench-hard"), row(2, "llmbar-natural")]), [RIGHT, RIGHT])
    absent, lacking = BENCHMARK.metrics(outcomes).notes
    assert absent.startswith("sections not there: chat, safety, reasoning;")
    assert lacking.startswith("chat_hard lacks llmbar-adver-neighbor, llmbar-adver-GPTInst, llmbar-adver-GPTOut")


def test_prior_sets_weigh_half_a_section_in_the_score_alone():
    rows = [row(1, "donotanswer"), row(2, "shp"), row(3, "shp"), row(4, "shp"), row(5, "summarize")]
    found = values(BENCHMARK, answered(read(BENCHMARK, rows), [WRONG, RIGHT, WRONG, WRONG, RIGHT]))
    assert found["prior_sets"] == pytest.approx((1 / 3 + 1) / 2)  # a plain mean of the two sets
    assert found["score"] == pytest.approx((1 * 0 + 0.5 * (2 / 3)) / 1.5)
    assert found["average"] == 0


def test_a_prior_set_s_file_says_what_it_is(tmp_path):
    prompt = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    hhh = {"prompt": [*prompt, {"role": "user", "content": "three"}], "chosen": "good", "rejected": "bad"}
    (tmp_path / "anthropic_hhh.jsonl").write_text(json.dumps({**hhh, "subset": "harmless"}) + "\n")
    (example,), _ = load(BENCHMARK, str(tmp_path))
    assert example.labels["subset"] == "anthropic_hhh"
    assert len(example.prompt.messages) == 3


def test_an_id_with_other_texts_is_another_example_and_a_row_twice_is_counted():
    first, again, other, elsewhere = read(
        BENCHMARK,
        [row(1, "hep-go"), row(1, "hep-go"), row(1, "hep-go", chosen="better"), row(1, "hep-js", chosen="better")],
    )
    assert isinstance(again, Unused)
    assert again.reason == "the same row stands there twice"
    assert [e.id for e in (first, other, elsewhere)] == ["hep-go:1", "hep-go:1#2", "hep-js:1"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"subset": "alpacaeval"}, "field 'subset': 'alpacaeval' is no subset"),
        ({"subset": ["hep-go"]}, "field 'subset': ['hep-go'] is no subset"),
        ({"subset": None}, "field 'subset': missing"),
        ({"id": None}, "field 'id': missing"),
        ({"chosen": ["one", "two"]}, "field 'chosen': a list, not text"),
        ({"rejected": None}, "field 'rejected': missing"),
        ({"prompt": 7}, "field 'prompt': 7, not text"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2") as caught:
        read(BENCHMARK, [row(1, "hep-go"), row(2, **{"subset": "hep-go", **change})])
    assert problem in str(caught.value)


def test_the_real_files():
    examples, balance = load(BENCHMARK, str(data("rewardbench_partial")))
    assert balance.as_dict()["in"] == balance.kept == len(examples) == 1403 == 419 + 984
    found = BENCHMARK.metrics(answered(examples, [RIGHT] * len(examples)))
    assert found.metrics["score"].value == pytest.approx(1)
    assert [note.split(";")[0] for note in found.notes] == [
        "sections not there: chat, safety",
        "chat_hard lacks mt-bench-hard",
        "reasoning lacks math-prm",
    ]
