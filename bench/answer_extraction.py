"""Our final answers against recorded grading on real responses, and the majority vote over ten models.

    python -m bench.answer_extraction [FOLDER] [--output FILE]

FOLDER ($REWARD_DISTILLER_DATA) holds `gsm8k/test_model_responses.jsonl.gz` and `gsm8k/example_model_solutions.jsonl.gz`
(responses to GSM8K, with what upstream graded them), `mmlu_pro/model_responses_700q.jsonl.gz`, and GSM-Plus's gold
answers in `gsm_plus/gsmplus_testmini.jsonl.gz`. Our answer is right where it is the same as the gold one. FILE gets
every response where ours and the recorded grading differ, one a row, with the cause. Causes are told from both answers
and the text, and not from gold; upstream's programs are not here, so what they do is inferred from what they recorded.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from reward_distiller.answers import AnswerFormat, answer_format, vote
from reward_distiller.config import fill_data_folder
from reward_distiller.files import read_rows

SHARES = (0.0, 0.3, 0.5)
KINDS = ("only ours is right", "only theirs is right", "we find no answer, theirs is right")
FORMATS = {"gsm8k": "number", "gsm8k examples": "number", "mmlu_pro": "choice"}
_STATEMENT = re.compile(r"(?:answer is|####):?\s*\(?(-?[\d,.]*\d|[A-J]\b)")
_SEVERAL = re.compile(r"answer is:? \(?[A-J]\)?(?:,| or| and|/)", re.IGNORECASE)


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


def cause(row: Graded, format_: AnswerFormat) -> str:
    """Why ours and the recorded grading differ."""
    recorded = row.recorded[0] if isinstance(row.recorded, list) and row.recorded else row.recorded
    theirs = None if recorded in (None, "", []) else format_.extract(f"The answer is {recorded}")
    if theirs is None:
        return "they find no answer"
    if row.answer is None:
        return "several answers in one statement" if _SEVERAL.search(row.text) else "no final statement, they find one"
    if format_.same(theirs, row.answer):
        return "the same answer, graded otherwise"
    said = [format_.extract(f"The answer is {match[1]}") for match in _STATEMENT.finditer(row.text)]
    if any(answer is not None and format_.same(answer, theirs) for answer in said):
        return "several statements: theirs is an earlier one, ours the last"
    if row.data.startswith("gsm8k") and theirs == str(round(Fraction(row.answer))):
        return "they round to a whole number"
    return "other"


def gold_of_gsm_plus(folder: Path) -> dict[str, Counter[str]]:
    """Kind of question -> how its gold answers are written where they are read as a number, and where not."""
    number = answer_format("number")
    found: dict[str, Counter[str]] = {}
    for _, row in read_rows(folder / "gsm_plus/gsmplus_testmini.jsonl.gz"):
        gold = str(row["answer"])
        read = number.extract(f"The answer is {gold}")
        form = "fraction" if "/" in gold else "decimal" if "." in gold else "whole"
        found.setdefault(row["perturbation_type"], Counter())[form if read else f"not read: {gold}"] += 1
    return found


def responses(folder: Path) -> dict[str, tuple[AnswerFormat, Iterator[tuple[str, str, str, Any, bool, str]]]]:
    """Data set -> format, and of each response: prompt, model, gold, recorded answer and grade, text."""
    read = {
        "gsm8k": _of_models(folder / "gsm8k/test_model_responses.jsonl.gz", "idx", "gold"),
        "gsm8k examples": _of_examples(folder / "gsm8k/example_model_solutions.jsonl.gz"),
        "mmlu_pro": _of_models(folder / "mmlu_pro/model_responses_700q.jsonl.gz", "question_id", "answer"),
    }
    return {data: (answer_format(FORMATS[data]), rows) for data, rows in read.items()}


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
    folder = given.folder or Path(fill_data_folder("$REWARD_DISTILLER_DATA"))
    rows = graded(folder)
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
    causes = {id(row): cause(row, answer_format(FORMATS[row.data])) for row in rows if row.kind}
    print_causes([(row, causes[id(row)]) for row in rows if row.kind])
    print_votes(groups)
    print_gsm_plus(gold_of_gsm_plus(folder))
    if given.output:
        exceptions = [
            json.dumps({"kind": row.kind, "cause": causes[id(row)], **asdict(row)}, ensure_ascii=False)
            for row in rows
            if row.kind
        ]
        given.output.write_text("".join(f"{line}\n" for line in exceptions), encoding="utf-8")
        print(f"\n{len(exceptions)} exceptions in {given.output}")


def print_causes(exceptions: list[tuple[Graded, str]]) -> None:
    print("\n| data | exception | cause | responses |\n|---|---|---|---:|")
    counts = Counter((row.data, str(row.kind), why) for row, why in exceptions)
    for (data, kind, why), count in sorted(counts.items(), key=lambda item: (item[0][:2], -item[1])):
        print(f"| {data} | {kind} | {why} | {count} |")


def print_gsm_plus(found: dict[str, Counter[str]]) -> None:
    print("\n| GSM-Plus, gold answers | rows | as they are written |\n|---|---:|---|")
    for kind, forms in found.items():
        print(f"| {kind} | {forms.total()} | {', '.join(f'{count} {form}' for form, count in forms.most_common())} |")


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
