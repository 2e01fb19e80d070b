"""Agreement with recorded grading on real responses."""

import os
from pathlib import Path

import pytest

from bench.answer_extraction import Graded, agreement, graded

FOLDER = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))


@pytest.fixture(scope="module")
def rows() -> list[Graded]:
    for name in ("gsm8k/test_model_responses.jsonl.gz", "mmlu_pro/model_responses_700q.jsonl.gz"):
        if not (FOLDER / name).exists():
            pytest.skip(f"{name} is not in $REWARD_DISTILLER_DATA")
    return graded(FOLDER)


@pytest.mark.parametrize(("data", "floor"), [("gsm8k", 0.995), ("gsm8k examples", 0.999), ("mmlu_pro", 0.98)])
def test_answers_are_graded_as_they_were_upstream(rows, data, floor):
    assert agreement([row for row in rows if row.data == data]) >= floor


def test_gold_answers_of_gsm_plus_are_numbers_but_for_critical_thinking():
    from reward_distiller.answers import answer_format
    from reward_distiller.files import read_rows

    path = FOLDER / "gsm_plus/gsmplus_testmini.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in $REWARD_DISTILLER_DATA")
    number = answer_format("number")
    for _, row in read_rows(path):
        found = number.extract(f"The answer is {row['answer']}")
        assert (found is None) == (row["perturbation_type"] == "critical thinking"), row["answer"]
