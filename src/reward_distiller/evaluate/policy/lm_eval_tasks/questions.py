"""The questions of GSM8K, GSM-Plus and MMLU-Pro, out of their authors' files: how each is asked, and its right answer.

GSM8K: Cobbe et al., 2021. GSM-Plus: Li et al., 2024; of its eight kinds of perturbation, "critical thinking" takes away
what an answer needs. MMLU-Pro: Wang et al., 2024. The prompts are ours. Knows neither lm-eval nor how answers are
graded.
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reward_distiller.answers import answer_format
from reward_distiller.config import fill_data_folder
from reward_distiller.errors import ConfigError, DataError
from reward_distiller.files import read_rows
from reward_distiller.records import content_id
from reward_distiller.rows import Fields

UNANSWERABLE = "critical thinking"  # the kind of GSM-Plus whose questions have no answer
OPTIONS = string.ascii_uppercase[:10]
NUMBER = "Reason step by step. End with a line of this form: The answer is N."
CHOICE = "One of these options is right. Reason step by step. End with a line of this form: The answer is (X)."


@dataclass(frozen=True)
class Question:
    """`prompt` is what a policy is asked, `target` how a shot answers it; `gold` is None where nothing can be answered.

    `label` is what figures are broken down by. Questions of one `group` are variants of each other.
    """

    id: str
    prompt: str
    target: str
    gold: str | None
    label: str = ""
    group: str = ""


@dataclass(frozen=True)
class LocalTask:
    """`file` and `shots_file` are patterns within the data folder; `answers` is a format of `reward_distiller.answers`.

    `shots_by_label`: a question's shots are those of its own label.
    """

    name: str
    labels: str
    file: str
    read: Callable[[Fields], Question]
    shots_file: str
    read_shot: Callable[[Fields], Question]
    answers: str
    options: Mapping[str, Any] = field(default_factory=dict)
    shots_by_label: bool = False


def questions_of(name: str, folder: str | None, limit: int | None = None) -> list[Question]:
    """All questions, or `limit` of them, drawn once and for all so that each label has its share.

    `folder` holds the benchmarks' folders; None is $REWARD_DISTILLER_DATA. Raises ConfigError for an unknown name,
    DataError for a file or a row that is not the benchmark's.
    """
    task = task_named(name)
    questions = _read(task, task.file, task.read, folder)
    return questions if limit is None else spread(questions, limit)


def shots_of(name: str, folder: str | None, count: int) -> dict[str, list[Question]]:
    """The first `count` worked questions, by the label of the questions that they stand before; "" is any.

    Raises DataError where there are fewer.
    """
    task = task_named(name)
    if not count:
        return {}
    by_label: dict[str, list[Question]] = defaultdict(list)
    for shot in _read(task, task.shots_file, task.read_shot, folder):
        by_label[shot.label if task.shots_by_label else ""].append(shot)
    for label, shots in by_label.items():
        if len(shots) < count:
            of = f" of {label}" if label else ""
            raise DataError(task.shots_file, f"{len(shots)} rows{of}, not {count}", mend="Ask with fewer shots")
    return {label: shots[:count] for label, shots in by_label.items()}


def task_named(name: str) -> LocalTask:
    if name not in LOCAL_TASKS:
        raise ConfigError(f"task {name!r} is none of {', '.join(LOCAL_TASKS)}")
    return LOCAL_TASKS[name]


def spread(questions: Sequence[Question], count: int) -> list[Question]:
    """`count` of the questions in their order, each label's share of them; all where there are no more."""
    if count >= len(questions):
        return list(questions)
    # Files go round labels and seed questions in cycles, so within a label the hash of an id says which comes first.
    drawn = sorted(range(len(questions)), key=lambda at: (questions[at].label, content_id(questions[at].id)))
    return [questions[at] for at in sorted(drawn[place * len(questions) // count] for place in range(count))]


def _read(task: LocalTask, pattern: str, read: Callable[[Fields], Question], folder: str | None) -> list[Question]:
    place = Path(fill_data_folder(folder or "$REWARD_DISTILLER_DATA"))
    files = sorted(place.glob(pattern))
    if not files:
        shots = "" if pattern == task.file else ", or ask without shots"
        raise DataError(place / pattern, "there is no such file", mend=f"Put {task.name}'s file there{shots}")
    questions = [read(Fields(str(files[0]), number, row, {})) for number, row in read_rows(files[0])]
    seen: dict[str, int] = {}
    for number, question in enumerate(questions, 1):
        if question.id in seen:
            problem = f"the question of row {seen[question.id]} again"
            raise DataError(files[0], problem, row=number, mend="Keep one of them")
        seen[question.id] = number
    return questions


def _text(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if not text or not text.strip():
        raise fields.wrong(name, "missing", "Take the benchmark's own file")
    return text.strip()


def _number(fields: Fields, name: str, written: str) -> str:
    found = answer_format("number").extract(written)
    if found is None:
        raise fields.wrong(name, f"{written[-40:]!r} ends in no number", "Take the benchmark's own file")
    return found


def _gsm8k(fields: Fields) -> Question:
    question, solution = _text(fields, "question"), _text(fields, "answer")
    steps, hashes, last = re.sub(r"<<[^<>]*>>", "", solution).rpartition("####")
    if not hashes:
        raise fields.wrong("answer", "no line that begins with ####", "Take the benchmark's own file")
    target = f"{steps.strip()}\nThe answer is {last.strip()}."
    return Question(f"gsm8k:{fields.number}", _asked(question), target, _number(fields, "answer", last))


def _gsm_plus(fields: Fields) -> Question:
    question, kind, answer = _text(fields, "question"), _text(fields, "perturbation_type"), _text(fields, "answer")
    gold = None if kind == UNANSWERABLE else _number(fields, "answer", answer)
    seed = _text(fields, "seed_question")
    return Question(f"gsm_plus:{fields.number}", _asked(question), f"The answer is {answer}.", gold, kind, seed)


def _asked(question: str) -> str:
    return f"Question: {question}\n\n{NUMBER}"


def _mmlu_pro(fields: Fields) -> Question:
    question, options, letter = _text(fields, "question"), fields.texts("options"), _text(fields, "answer")
    if letter not in OPTIONS[: len(options)] or len(letter) != 1 or len(options) > len(OPTIONS):
        problem = f"{letter!r:.20} names none of {len(options)} options"
        raise fields.wrong("answer", problem, "Take the benchmark's own file")
    listed = "\n".join(f"{name}. {text.strip()}" for name, text in zip(OPTIONS, options))
    worked = (fields.text("cot_content") or "").strip().removeprefix("A:").strip()
    said = f"The answer is ({letter})."
    target = worked if worked.endswith(said) else f"{worked}\n{said}".strip()
    prompt = f"Question: {question}\n\n{listed}\n\n{CHOICE}"
    return Question(f"mmlu_pro:{fields.require('question_id')}", prompt, target, letter, _text(fields, "category"))


LOCAL_TASKS: dict[str, LocalTask] = {
    task.name: task
    for task in (
        LocalTask("gsm8k", "", "gsm8k/test.jsonl*", _gsm8k, "gsm8k/train.jsonl*", _gsm8k, "number"),
        LocalTask(
            "gsm_plus",
            "kind of perturbation",
            "gsm_plus/gsmplus_testmini.jsonl*",
            _gsm_plus,
            "gsm8k/train.jsonl*",
            _gsm8k,
            "number",
        ),
        LocalTask(
            "mmlu_pro",
            "category",
            "mmlu_pro/questions.jsonl*",
            _mmlu_pro,
            "mmlu_pro/validation.jsonl*",
            _mmlu_pro,
            "choice",
            {"options": len(OPTIONS)},
            shots_by_label=True,
        ),
    )
}
