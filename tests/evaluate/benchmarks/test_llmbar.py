"""LLMBar by subset, in its merged file and in upstream's folders, against counts by hand, and the real file."""

import json
from collections import Counter

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.llmbar import BENCHMARK
from reward_distiller.evaluate.benchmarks.reading import load


def row(number: int, subset: str | None = "llmbar-natural", **changes: object) -> dict[str, object]:
    texts = {"input": f"question {number}", "output_1": f"first {number}", "output_2": f"second {number}"}
    return {"subset": subset, "idx": number, **texts, "label": 1, **changes}


def test_subsets_overall_and_averages_by_hand():
    rows = [row(n) for n in range(3)] + [row(0, "llmbar-adver-manual"), row(0, "llmbar-adver-GPTOut")]
    outcomes = answered(read(BENCHMARK, rows), [[1, 0], [1, 0], [0, 1], [1, 0], [1, 1]])
    found = values(BENCHMARK, outcomes)
    assert found == pytest.approx(
        {
            "overall": 3 / 5,
            "llmbar-natural": 2 / 3,
            "llmbar-adver-manual": 1,
            "llmbar-adver-GPTOut": 0,
            "adversarial": (1 + 0) / 2,
            "average": (2 / 3 + 1 + 0) / 3,
        }
    )
    (note,) = BENCHMARK.metrics(outcomes).notes
    assert note.startswith("subsets not there: llmbar-adver-neighbor, llmbar-adver-GPTInst;")


def test_the_label_says_which_is_better():
    first, second = read(BENCHMARK, [row(1), row(2, label=2)])
    assert (first.responses, second.responses) == (("first 1", "second 1"), ("second 2", "first 2"))


def test_upstream_s_folders_say_the_subset(tmp_path):
    for folder in ("LLMBar/Natural", "LLMBar/Adversarial/GPTInst", "CaseStudy/Negation"):
        file = tmp_path / "Dataset" / folder / "dataset.json"
        file.parent.mkdir(parents=True)
        rows = [{name: value for name, value in row(n).items() if name not in ("subset", "idx")} for n in (0, 1)]
        file.write_text(json.dumps(rows))
    examples, balance = load(BENCHMARK, str(tmp_path))
    assert [e.id for e in examples] == [
        "llmbar-natural:0",
        "llmbar-natural:1",
        "llmbar-adver-GPTInst:0",
        "llmbar-adver-GPTInst:1",
    ]
    assert balance.line() == "load llmbar: in 4 rows = kept 4"  # the case study is another benchmark


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": 0}, "field 'label': 0 is neither 1 nor 2"),
        ({"label": None}, "field 'label': missing"),
        ({"subset": "natural"}, "field 'subset': 'natural' is no subset"),
        ({"subset": None}, "field 'subset': None is no subset"),
        ({"output_2": None}, "field 'output_2': missing"),
        ({"input": None}, "field 'input': missing"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2") as caught:
        read(BENCHMARK, [row(1), row(2, **change)])
    assert problem in str(caught.value)


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("llmbar")))
    assert balance.as_dict()["in"] == balance.kept == len(examples) == 419
    assert sorted(Counter(e.labels["subset"] for e in examples).values()) == [46, 47, 92, 100, 134]
    assert BENCHMARK.metrics(answered(examples, [[1, 0]] * 419)).notes == []
    lengths = answered(examples, [[len(text) for text in e.responses] for e in examples])
    found = values(BENCHMARK, lengths)
    assert found["adversarial"] < found["llmbar-natural"]  # the deceiving outputs are the longer ones
