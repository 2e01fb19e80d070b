"""RM-Bench's matrix, triangles and domains against counts by hand, and its real files."""

import json

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import BenchmarkError, DataError
from reward_distiller.evaluate.benchmarks.reading import load
from reward_distiller.evaluate.benchmarks.rm_bench import BENCHMARK


def row(number: int, domain: str | None = None, **changes: object) -> dict[str, object]:
    texts = {side: [f"{side} {style} {number}" for style in range(3)] for side in ("chosen", "rejected")}
    return {"id": number, "prompt": f"question {number}", "domain": domain, **texts, **changes}


def test_triangles_of_the_matrix_by_hand():
    outcomes = answered(read(BENCHMARK, [row(1, "chat")]), [[1, 5, 5, 0, 5, 2]])
    # chosen 1: > 0 alone. chosen 5 (twice): > 0, not > 5 (a tie is a loss), > 2
    found = values(BENCHMARK, outcomes)
    assert found["normal"] == pytest.approx((1 + 0 + 1) / 3)
    assert found["hard"] == pytest.approx((0 + 0 + 1) / 3)  # concise against the others, detailed against markdown
    assert found["easy"] == pytest.approx((1 + 1 + 0) / 3)
    assert found["average"] == pytest.approx((2 + 1 + 2) / 9)
    assert found["matrix.concise.concise"] == 1
    assert found["matrix.detailed.markdown"] == 1
    assert found["matrix.markdown.detailed"] == 0


def test_domains_weigh_alike_safety_is_pooled_and_what_is_missing_is_said():
    rows = [row(1, "safety-refuse"), row(1, "safety-response"), row(1, "code"), row(2, "code"), row(3, "code")]
    right, wrong = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]
    outcomes = answered(read(BENCHMARK, rows), [right, wrong, right, right, right])
    found = values(BENCHMARK, outcomes)
    assert [found[name] for name in ("safety", "code", "average")] == pytest.approx([0.5, 1.0, 0.75])
    (note,) = BENCHMARK.metrics(outcomes).notes
    assert note.startswith("domains not there: chat, math")


def test_the_file_s_name_says_the_domain(tmp_path):
    for name in ("chat_filtered", "math_filtered"):
        (tmp_path / f"{name}.json").write_text(json.dumps([row(7)]))
    examples, balance = load(BENCHMARK, str(tmp_path))
    assert [(e.id, e.labels["domain"]) for e in examples] == [("chat:7", "chat"), ("math:7", "math")]
    assert balance.line() == "load rm_bench: in 2 rows = kept 2"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"chosen": ["one", "two"]}, "field 'chosen': 2 texts"),
        ({"rejected": "text"}, "field 'rejected': not a list of texts"),
        ({"id": None}, "field 'id': missing"),
        ({"domain": "poetry"}, "'poetry' is no domain"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2") as caught:
        read(BENCHMARK, [row(1, "chat"), row(2, **{"domain": "chat", **change})])
    assert problem in str(caught.value)


def test_a_wrong_file_says_what_was_expected(tmp_path):
    with pytest.raises(BenchmarkError, match="no file of rm_bench lies there"):
        load(BENCHMARK, str(tmp_path))
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"text_chosen": [], "text_rejected": []}]))
    with pytest.raises(BenchmarkError, match="expects rows with id, prompt, chosen and rejected"):
        load(BENCHMARK, str(other))
    other.write_text("[]")
    with pytest.raises(BenchmarkError, match="holds no row"):
        load(BENCHMARK, str(other))
    twice = tmp_path / "twice.json"
    twice.write_text(json.dumps([row(1, "chat"), row(1, "chat")]))
    with pytest.raises(BenchmarkError, match="2 examples have the id 'chat:1'"):
        load(BENCHMARK, str(twice))


def test_the_real_files():
    examples, balance = load(BENCHMARK, str(data("rm_bench")))
    assert balance.as_dict()["in"] == balance.kept == len(examples) == 86 + 152 + 189 + 105
    assert all(len(e.responses) == 6 and e.right == 3 for e in examples)
