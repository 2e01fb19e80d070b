"""IFBench by level, in both layouts, against counts by hand, and the real file."""

from collections import Counter

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.ifbench import BENCHMARK
from reward_distiller.evaluate.benchmarks.reading import load


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def converted(number: int, level: str = "level-3", **changes: object) -> dict[str, object]:
    chosen, rejected = (talk(f"question {number}", f"{side} {number}") for side in ("good", "bad"))
    return {"id": number, "text_chosen": chosen, "text_rejected": rejected, "domain": level, **changes}


def original(number: int, broken: int) -> dict[str, object]:
    return {
        "id": number,
        "instruction": f"question {number}",
        "chosen": {"content": f"good {number}", "unsatisfied_constraints": []},
        "rejected": {"content": f"bad {number}", "unsatisfied_constraints": ["rhyme"] * broken},
    }


def test_levels_overall_and_their_average():
    rows = [converted(1, "level-1"), converted(2, "level-3"), converted(3, "level-3"), converted(4, "level-3")]
    outcomes = answered(read(BENCHMARK, rows), [[0, 1], [1, 0], [1, 0], [0, 0]])
    found = values(BENCHMARK, outcomes)
    assert found == pytest.approx({"overall": 2 / 4, "level-1": 0, "level-3": 2 / 3, "average": (0 + 2 / 3) / 2})
    assert BENCHMARK.metrics(outcomes).notes == ["levels not there: level-2; average is over level-1, level-3"]


def test_both_layouts_are_one_example():
    (here,), (there,) = read(BENCHMARK, [converted(1)]), read(BENCHMARK, [original(1, broken=1)])
    assert here == there
    assert here.responses == ("good 1", "bad 1")
    assert here.prompt.as_dicts() == [{"role": "user", "content": "question 1"}]


def test_the_level_is_how_many_constraints_are_broken():
    found = read(BENCHMARK, [original(n, broken=n) for n in (1, 2, 3, 4)])
    assert [e.labels["level"] for e in found] == ["level-3", "level-2", "level-1", "level-1"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (converted(2, "hard"), "field 'domain': 'hard' is no level"),
        (converted(2, domain=None), "field 'domain': missing"),
        (converted(2, text_rejected=None), "field 'text_rejected': missing"),
        (converted(2, text_rejected="text"), "field 'text_rejected': not a conversation"),
        (converted(2, text_rejected=talk("other", "bad")), "field 'text_rejected': another prompt than text_chosen's"),
        (converted(2, text_chosen=talk("question 2", "good")[::-1]), "another prompt than text_chosen's"),
        (converted(2, id=None), "field 'id': missing"),
        (original(2, broken=0), "field 'rejected.unsatisfied_constraints': no constraint is broken"),
        ({**original(2, broken=1), "chosen": "text"}, "field 'chosen.content': missing"),
        ({"id": 2, "prompt": "question", "chosen": "good", "rejected": "bad"}, "missing"),
    ],
)
def test_malformed_rows_are_named(bad, problem):
    with pytest.raises(DataError, match="row 2") as caught:
        read(BENCHMARK, [converted(1), bad])
    assert problem in str(caught.value)


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("ifbench")))
    assert balance.as_dict()["in"] == balance.kept == len(examples) == 444
    assert Counter(e.labels["level"] for e in examples) == {"level-3": 264, "level-2": 133, "level-1": 47}
    rewards = [[1, 0] if e.labels["level"] == "level-3" else [0, 1] for e in examples]
    found = values(BENCHMARK, answered(examples, rewards))
    assert found["overall"] == pytest.approx(264 / 444)
    assert found["average"] == pytest.approx(1 / 3)
