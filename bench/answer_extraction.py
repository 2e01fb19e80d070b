"""Our final answers against recorded grading on real responses, and the majority vote over ten models.

    python -m bench.answer_extraction [FOLDER] [--output FILE]

FOLDER ($REWARD_DISTILLER_DATA) holds `gsm8k/test_model_responses.jsonl.gz` and `gsm8k/example_model_solutions.jsonl.gz`
(responses to GSM8K, with what upstream graded them) and `mmlu_pro/model_responses_700q.jsonl.gz`. Our answer is right
where it is the same as the gold one. FILE gets every response where ours and the recorded grading differ, one a row.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reward_distiller.answers import AnswerFormat, answer_format, vote
from reward_distiller.config import fill_data_folder
from reward_distiller.files import read_rows

SHARES = (0.0, 0.3, 0.5)
KINDS = ("only ours is right", "only theirs is right", "we find no answer, theirs is right")


@dataclass(frozen=True)
class Graded:
    """A response, its recorded grade, and our answer to it."""

    data: str
    prompt: str
    model: str
    gold: str
    recorded: Any
    recorded_right: bool
    answer: str | None
    right: bool
    text: str

    @property
    def kind(self) -> str | None:
        """Of an exception; None where both agree."""
        if self.right == self.recorded_right:
            return None
        return KINDS[0] if self.right else KINDS[1 + (self.answer is None)]


def responses(folder: Path) -> dict[str, tuple[AnswerFormat, Iterator[tuple[str, str, str, Any, bool, str]]]]:
    """Data set -> format, and of each response: prompt, model, gold, recorded answer and grade, text."""
    number, choice = answer_format("number"), answer_format("choice")
    return {
        "gsm8k": (number, _of_models(folder / "gsm8k/test_model_responses.jsonl.gz", "idx", "gold")),
        "gsm8k examples": (number, _of_examples(folder / "gsm8k/example_model_solutions.jsonl.gz")),
        "mmlu_pro": (choice, _of_models(folder / "mmlu_pro/model_responses_700q.jsonl.gz", "question_id", "answer")),
    }


def _of_models(path: Path, prompt: str, gold: str) -> Iterator[tuple[str, str, str, Any, bool, str]]:
    for _, row in read_rows(path):
        for model, said in row["responses"].items():
            yield str(row[prompt]), model, row[gold], said["pred"], said["correct"], said["text"]


def _of_examples(path: Path) -> Iterator[tuple[str, str, str, Any, bool, str]]:
    for number, row in read_rows(path):
        gold = row["ground_truth"].rpartition("A:")[2].strip()
        for model, said in row.items():
            if isinstance(said, dict):
                yield str(number), model, gold, None, said["is_correct"], said["solution"]


def graded(folder: Path) -> list[Graded]:
    found = []
    for data, (format_, rows) in responses(folder).items():
        for prompt, model, gold, recorded, correct, text in rows:
            answer, wanted = format_.extract(text), format_.extract(f"The answer is {gold}")
            right = answer is not None and wanted is not None and format_.same(answer, wanted)
            found.append(Graded(data, prompt, model, gold, recorded, correct, answer, right, text))
    return found


def by_model(rows: list[Graded]) -> dict[tuple[str, str], list[Graded]]:
    groups: dict[tuple[str, str], list[Graded]] = {}
    for row in rows:
        groups.setdefault((row.data, row.model), []).append(row)
    return groups


def agreement(rows: list[Graded]) -> float:
    return sum(row.kind is None for row in rows) / len(rows)


def votes(rows: list[Graded], format_: AnswerFormat, min_consensus: float) -> dict[str, float]:
    """Shares of prompts with a consensus, with a tie, below the share, without an answer; accuracies."""
    prompts: dict[str, list[Graded]] = {}
    for row in rows:
        prompts.setdefault(row.prompt, []).append(row)
    reasons: Counter[str] = Counter()
    right = 0
    for samples in prompts.values():
        outcome = vote([row.answer for row in samples], format_.same, min_consensus)
        reasons[outcome.reason or "consensus"] += 1
        wanted = format_.extract(f"The answer is {samples[0].gold}")
        right += outcome.answer is not None and wanted is not None and format_.same(outcome.answer, wanted)
    count = len(prompts)
    return {
        **{name: reasons[name] / count for name in ("consensus", "tie", "below min_consensus", "no answer")},
        "accuracy of the consensus": right / max(reasons["consensus"], 1),
        "right of all prompts": right / count,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("folder", nargs="?", type=Path)
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    rows = graded(given.folder or Path(fill_data_folder("$REWARD_DISTILLER_DATA")))
    groups = by_model(rows)
    print("| data | model | responses | agree | " + " | ".join(KINDS) + " | no answer |")
    print("|---|---|" + "---:|" * (3 + len(KINDS)))
    for (data, model), found in groups.items():
        kinds = Counter(row.kind for row in found)
        none = sum(row.answer is None for row in found)
        cells = [data, model, len(found), kinds[None], *(kinds[kind] for kind in KINDS), none]
        print(f"| {' | '.join(map(str, cells))} |")
    for data in dict.fromkeys(data for data, _ in groups):
        print(f"\n{data}: {agreement([row for row in rows if row.data == data]):.4f} agree")
    print_votes(groups)
    if given.output:
        exceptions = [json.dumps({"kind": row.kind, **asdict(row)}, ensure_ascii=False) for row in rows if row.kind]
        given.output.write_text("".join(f"{line}\n" for line in exceptions), encoding="utf-8")
        print(f"\n{len(exceptions)} exceptions in {given.output}")


def print_votes(groups: dict[tuple[str, str], list[Graded]]) -> None:
    for data, name in (("gsm8k", "number"), ("mmlu_pro", "choice")):
        models = {model: found for (of, model), found in groups.items() if of == data}
        accuracies = {model: sum(row.right for row in found) / len(found) for model, found in models.items()}
        best = max(accuracies, key=lambda model: accuracies[model])
        mean = sum(accuracies.values()) / len(accuracies)
        print(f"\n{data}: mean of {len(models)} models {mean:.1%}, best ({best}) {accuracies[best]:.1%}\n")
        samples = [row for found in models.values() for row in found]
        for share in SHARES:
            result = votes(samples, answer_format(name), share)
            if share == SHARES[0]:
                print(f"| min_consensus | {' | '.join(result)} |\n|---|{'---:|' * len(result)}")
            print(f"| {share:g} | {' | '.join(f'{value:.1%}' for value in result.values())} |")


if __name__ == "__main__":
    main()
