"""Questions, grades and figures of GSM8K, GSM-Plus and MMLU-Pro, on planted rows and on the real files."""

import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path

import pytest

from reward_distiller.errors import ConfigError, DataError
from reward_distiller.evaluate.policy.lm_eval_tasks import LOCAL_TASKS, questions_of
from reward_distiller.evaluate.policy.lm_eval_tasks.figures import Sample, figures_of
from reward_distiller.evaluate.policy.lm_eval_tasks.grading import NO_ANSWER, declines, grader
from reward_distiller.evaluate.policy.lm_eval_tasks.questions import UNANSWERABLE, shots_of

DATA = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))
real = pytest.mark.skipif(not (DATA / "gsm_plus").is_dir(), reason="no real data here")


def write(folder, name, rows):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def choice(number, category, **rest):
    options = ["red", "green", "blue"]
    row = {"question_id": number, "question": f"Which? {number}", "options": options, "answer": "B"}
    return {**row, "category": category, **rest}


def test_a_number_is_right_as_a_value_and_a_missing_one_is_wrong():
    grade = grader("gsm8k")
    assert grade("1080", "So she pays $1,080.00.\nThe answer is 1,080.").right
    assert not grade("1080", "The answer is 108.").right
    assert grade("1080", "I would rather not.").answer is None
    assert not grade("1080", "").right
    assert not grade("7", "<think>It is 7").right


def test_a_letter_is_right_and_two_are_wrong():
    grade = grader("mmlu_pro")
    assert grade("J", "Reasons.\nThe answer is (J).").right
    assert not grade("J", "The answer is (J) or (A).").right
    assert not grade("J", "The answer is (K).").right


@pytest.mark.parametrize(
    "response",
    [
        "The price of the 3 tickets is not given, so it cannot be determined.",
        "It is impossible to say how much she pays, as 5 of the eggs have no price.",
        "There is not enough information.\nThe answer is unknown.",
        "2 + 3 = 5 so far, but we don't know the rest. The answer is N/A.",
        "We can't calculate it.\n\\boxed{\\text{undefined}}",
        "If it were 4, the answer would be 12. But it is missing information about the dogs.",
        "<think>The answer is 5.</think>The number of dogs is not specified.",
    ],
)
def test_saying_that_there_is_no_answer_is_right_where_there_is_none(response):
    assert grader("gsm_plus")(None, response).right
    assert grader("gsm_plus")(None, response).answer == NO_ANSWER


@pytest.mark.parametrize(
    "response",
    [
        "",
        "Let me think about this.",
        "The answer is 12.",
        "It cannot be determined exactly; assuming 4 dogs, the answer is 12.",
        "We do not know the price. With $3 each it is 4 * 3 = 12.",
        "The price is not given, so we take 5 dollars each, and she pays $20.",
        "<think>It cannot be determined",
    ],
)
def test_silence_and_a_number_are_wrong_where_there_is_no_answer(response):
    assert not grader("gsm_plus")(None, response).right


def test_hostile_responses_are_read_in_no_time():
    start = time.monotonic()
    for text in (
        "cannot " * 9000,
        "cannot be determined " + "= " * 20000,
        "is not given " * 4000 + "= 5 answer " * 4000,
    ):
        declines(text)
    assert time.monotonic() - start < 2


def test_accuracy_by_label_and_intervals_over_seed_questions():
    def sample(number, label, group, right):
        grade = grader("gsm_plus")("1", "The answer is 1." if right else "")
        return Sample("gsm_plus", str(number), label, group, "?", "The answer is 1." if right else "", "1", grade)

    kinds = ["adding operation", UNANSWERABLE]
    found = figures_of([sample(8 * s + k, kind, f"s{s}", k == 0) for s in range(4) for k, kind in enumerate(kinds)])
    values = {name: figure.value for name, figure in found.figures.items()}
    assert values == {
        "accuracy": 50,
        "accuracy.with_answer": 100,
        "accuracy.adding operation": 100,
        f"accuracy.{UNANSWERABLE}": 0,
    }
    assert found.figures["accuracy"].n == 4
    assert found.notes == ["4 responses are empty"]
    assert found.details == {"questions": 8, "without_answer": 4}


def test_shots_stand_before_questions_of_their_own_category(tmp_path):
    folder = write(tmp_path, "mmlu_pro/questions.jsonl", [choice(1, "law"), choice(2, "math")])
    worked = [
        choice(n, c, cot_content=f"A: Step {n}. The answer is (B).") for n, c in enumerate(["law", "math"] * 3, 5)
    ]
    write(tmp_path, "mmlu_pro/validation.jsonl", worked)
    shots = shots_of("mmlu_pro", folder, 2)
    assert [shot.target for shot in shots["law"]] == ["Step 5. The answer is (B).", "Step 7. The answer is (B)."]
    with pytest.raises(DataError, match="3 rows of law, not 4"):
        shots_of("mmlu_pro", folder, 4)


def test_what_is_wrong_with_files_is_said_with_its_place(tmp_path):
    with pytest.raises(ConfigError, match="'mmlu' is none of gsm8k, gsm_plus, mmlu_pro"):
        questions_of("mmlu", None)
    with pytest.raises(DataError, match="no such file"):
        questions_of("gsm8k", str(tmp_path))
    folder = write(tmp_path, "gsm8k/test.jsonl", [{"question": "How many?", "answer": "Many."}])
    with pytest.raises(DataError, match=r"row 1, field 'answer': no line that begins with ####"):
        questions_of("gsm8k", folder)
    write(tmp_path, "mmlu_pro/questions.jsonl", [choice(1, "law", answer="D")])
    with pytest.raises(DataError, match="'D' names none of 3 options"):
        questions_of("mmlu_pro", folder)
    write(tmp_path, "mmlu_pro/questions.jsonl", [choice(1, "law"), choice(1, "law")])
    with pytest.raises(DataError, match="row 2: the question of row 1 again"):
        questions_of("mmlu_pro", folder)
    with pytest.raises(DataError, match="or ask without shots"):
        shots_of("mmlu_pro", folder, 1)


@real
@pytest.mark.parametrize("name", LOCAL_TASKS)
def test_every_real_question_is_answered_by_its_own_target(name):
    grade, questions = grader(name), questions_of(name, str(DATA))
    assert len(questions) == {"gsm8k": 1319, "gsm_plus": 2400, "mmlu_pro": 12032}[name]
    assert all(grade(each.gold, each.target).right for each in questions)
    assert not any("<<" in each.target or "####" in each.prompt for each in questions)


@real
def test_a_limit_gives_each_kind_its_share():
    few = questions_of("gsm_plus", str(DATA), 80)
    assert set(Counter(each.label for each in few).values()) == {10}
    assert len({each.group for each in few}) > 60
    assert few == questions_of("gsm_plus", str(DATA), 80)
    assert len({each.label for each in questions_of("mmlu_pro", str(DATA), 50)}) == 14


@real
def test_real_responses_decline_only_where_they_are_wrong():
    """GSM8K's questions all have answers: what says otherwise was graded wrong by others as well."""
    declined = []
    with gzip.open(DATA / "gsm8k/test_model_responses.jsonl.gz") as file:
        for row in map(json.loads, file):
            declined += [each["correct"] for each in row["responses"].values() if declines(each["text"])]
    assert 0 < len(declined) < 20
    assert not any(declined)
    with gzip.open(DATA / "gsm_plus/gsmplus_testmini.jsonl.gz") as file:
        rows = list(map(json.loads, file))
    assert all(declines(row["solution"]) == (row["perturbation_type"] == UNANSWERABLE) for row in rows)
