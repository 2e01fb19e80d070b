"""CFBench: constraints of 1,000 Chinese prompts, each primary or secondary (Zhang et al., 2024).

A judge says of each criterion whether a response satisfies it. CSR is the mean share of a prompt's criteria that are
satisfied, ISR the share of prompts with all of them, PSR the share with all primary ones and enough of the others, by
the thresholds of the benchmark's own script. Knows no judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reward_distiller.errors import DataError
from reward_distiller.evaluate.metrics import Metric, figure, grouped, mean
from reward_distiller.evaluate.policy.protocol import (
    Judged,
    JudgeRequest,
    PolicyBenchmark,
    PolicyFigures,
    Task,
    Verdicts,
)
from reward_distiller.files import read_rows
from reward_distiller.rows import Fields

FILES = "cfbench_data.json*"
PRIMARY, SECONDARY = "主需", "次需"
PRIORITIES = {PRIMARY: "primary", SECONDARY: "secondary"}
REAL_LIFE = "tob"  # the source whose rows have one of 21 domains; the others are 200 NLP tasks of a few rows each
NLP, UNKNOWN = "nlp_tasks", "none"
EXPECTS = (
    f"the official data file, or a folder that holds it as {FILES}: rows {{idx, prompt, criteria: lists of [text, "
    f"{PRIMARY} or {SECONDARY}, class, subclass]}}, maybe gold, doamin (so spelt), source and split"
)


def read(path: Path) -> list[Task]:
    """A task a row. Raises DataError for rows that are not the benchmark's."""
    if path.is_dir():
        files = sorted(path.glob(FILES))
        if not files:
            raise DataError(path, "its data file does not lie there", mend=f"It takes {EXPECTS}")
        path = files[0]
    return [_task(Fields(str(path), number, row, {"domain": "doamin"})) for number, row in read_rows(path)]


def _task(fields: Fields) -> Task:
    index = fields.require("idx")
    if isinstance(index, bool) or not isinstance(index, int | str):
        raise fields.wrong("idx", f"{index!r:.40} is neither text nor a whole number", "Number the rows")
    criteria = fields.require("criteria")
    if not isinstance(criteria, list) or not criteria:
        raise fields.wrong("criteria", "no list of criteria", f"Write [[text, {PRIMARY}, class, subclass], ...]")
    for criterion in criteria:
        if not isinstance(criterion, list) or len(criterion) != 4 or not all(isinstance(x, str) for x in criterion):
            raise fields.wrong(
                "criteria", f"{criterion!r:.60} is no criterion", "Write [text, priority, class, subclass]"
            )
        if not criterion[0].strip() or criterion[1] not in PRIORITIES:
            raise fields.wrong("criteria", f"{criterion!r:.60} lacks text or priority", f"{PRIMARY} or {SECONDARY}")
    domain = fields.text("domain") or UNKNOWN
    labels = {"domain": domain if fields.text("source") == REAL_LIFE else NLP}
    if split := fields.text("split"):
        labels["split"] = split
    details = {"criteria": [tuple(criterion) for criterion in criteria], "gold": fields.text("gold") or ""}
    return Task(str(index), fields.prompt(), labels, details)


def request(task: Task, response: str) -> JudgeRequest:
    """A verdict for each criterion, in the order of the row."""
    texts = [text for text, *_ in task.details["criteria"]]
    listed = "\n".join(f"{n}. " + text.strip().replace("\n", "\n    ") for n, text in enumerate(texts, 1))
    values = {"response": response, "criteria": listed, "count": str(len(texts)), "reference": task.details["gold"]}
    return JudgeRequest("criteria", values, len(texts))


def upstream(task: Task, text: str) -> Verdicts | None:
    """A judge's answer as the benchmark's script reads it, but for the layout: number and colon, not text and tab."""
    count = len(task.details["criteria"])
    labels = [str(number) for number in range(1, count + 1)]
    scores = upstream_scores(text.strip(), labels, between="\n", separator=":")
    if scores is None:
        return None
    return scores if len(scores) == count else (1.0 if scores else 0.0,) * count


def upstream_scores(text: str, labels: Sequence[str], *, between: str, separator: str) -> Verdicts | None:
    """The scores that the benchmark's script reads of an answer, which may be fewer than the labels.

    Where the answer is not each label with 0 or 1, in order, it takes the lines that have a score other than 0, so what
    it finds are ones, and the response satisfies everything; no such line, and it satisfies nothing. None: at a score
    that is no number the script itself fails.
    """
    entries = [entry.split(separator) for entry in text.split(between)]
    labelled = [entry[0] for entry in entries] == list(labels) and all(len(entry) == 2 for entry in entries)
    if labelled and all((score := _number(entry[1])) is not None and score in (0, 1) for entry in entries):
        return tuple(float(entry[1]) for entry in entries)
    lines = [parts for line in text.split("\n") if len(parts := line.split(separator)) == 2]
    numbers = [_number(score) for _, score in lines]
    if None in numbers:
        return None
    return tuple(1.0 for number in numbers if number == 1)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def shares(verdicts: Verdicts) -> float:
    """CSR of one response."""
    return sum(verdicts) / len(verdicts)


def all_satisfied(verdicts: Verdicts) -> float:
    """ISR of one response."""
    return float(all(verdict == 1 for verdict in verdicts))


def priorities_satisfied(verdicts: Verdicts, priorities: Sequence[str]) -> float:
    """PSR of one response: 1 where all primary criteria and more than 60% of the secondary ones are satisfied.

    Where all are secondary, more than 80% must be. Compared in whole numbers, so that 3 of 5 is not more than 60%.
    Raises ValueError where there are not as many verdicts as priorities.
    """
    both = list(zip(verdicts, priorities, strict=True))
    primary = [verdict == 1 for verdict, priority in both if priority == PRIMARY]
    secondary = [verdict == 1 for verdict, priority in both if priority != PRIMARY]
    if not all(primary):
        return 0.0
    enough = 3 if primary else 4  # of 5
    return float(not secondary or 5 * sum(secondary) > enough * len(secondary))


def figures(judged: Sequence[Judged]) -> PolicyFigures:
    """`csr`, `isr` and `psr` in percent with 95% bootstrap intervals over prompts: of all, by split, by domain.

    `satisfied.CLASS` is the share of the criteria of a class that are satisfied, and so for the two priorities.
    """
    prompt_of = {each.task.id: each.task.prompt.id for each in judged}
    rates = {
        "csr": {each.task.id: shares(each.verdicts) for each in judged},
        "isr": {each.task.id: all_satisfied(each.verdicts) for each in judged},
        "psr": {each.task.id: priorities_satisfied(each.verdicts, _priorities(each.task)) for each in judged},
    }
    metrics: dict[str, Metric] = {name: mean(values) for name, values in rates.items()}
    for label in ("split", "domain"):
        for name, values in rates.items():
            labelled = {each.task.id: each.task.labels[label] for each in judged if label in each.task.labels}
            parts = grouped({task: values[task] for task in labelled}, labelled)
            metrics |= {f"{name}.{part}": metric for part, metric in parts.items()}
    found = {name: figure(metric, prompt_of) for name, metric in metrics.items()}
    by_criterion, classes, priorities, owner = {}, {}, {}, {}
    for each in judged:
        for n, (verdict, (_, priority, name, _)) in enumerate(
            zip(each.verdicts, each.task.details["criteria"], strict=True)
        ):
            key = f"{each.task.id} {n}"
            by_criterion[key], owner[key] = verdict, each.task.prompt.id
            classes[key], priorities[key] = name or UNKNOWN, PRIORITIES[priority]
    for group_of in (priorities, classes):
        found |= {f"satisfied.{n}": figure(m, owner) for n, m in grouped(by_criterion, group_of).items()}
    notes = []
    if bare := sum(PRIMARY not in _priorities(each.task) for each in judged):
        notes.append(f"{bare:,} prompts have no primary criterion; for PSR they need more than 80% of the others")
    return PolicyFigures(found, notes, {"criteria": len(by_criterion)})


def _priorities(task: Task) -> list[str]:
    return [priority for _, priority, *_ in task.details["criteria"]]


BENCHMARK = PolicyBenchmark(
    name="cfbench",
    about="CFBench: criteria of Chinese prompts, primary and secondary",
    expects=EXPECTS,
    read=read,
    request=request,
    figures=figures,
    upstream=upstream,
)
