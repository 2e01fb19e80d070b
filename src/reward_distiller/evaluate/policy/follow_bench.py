"""FollowBench: how many constraints on one instruction a policy still follows (Jiang et al., 2024).

A group is an instruction at levels 1 to 5, each of which adds a constraint. Of a response to level n, a judge who sees
the whole chain says constraint by constraint whether it is satisfied; a rule says it of all at once in 70 groups of 164
(`follow_bench_rules.py`). HSR is the share of responses that satisfy all, SSR the mean share of constraints satisfied,
CSL how many levels from the first on are wholly satisfied. Knows no judge.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from reward_distiller.errors import DataError
from reward_distiller.evaluate.metrics import Metric, average, figure, mean
from reward_distiller.evaluate.policy import follow_bench_rules as rules
from reward_distiller.evaluate.policy.protocol import (
    Judged,
    JudgeRequest,
    PolicyBenchmark,
    PolicyFigures,
    Task,
    Verdicts,
)
from reward_distiller.evaluate.resampling import Estimate
from reward_distiller.evaluate.statistics import Figure
from reward_distiller.files import read_rows
from reward_distiller.rows import Fields

LEVELS = (1, 2, 3, 4, 5)
# Category -> what its constraints are about, as a judge is told. Those of `example` are all decided by a rule.
CATEGORIES = {
    "content": "what the response must hold or leave out",
    "situation": "the circumstances that the response must take into account",
    "style": "the manner, tone or voice of the response",
    "format": "the form and layout of the response",
    "example": "the form that the examples show",
    "mixed": "content, situation, style or format",
}
UNREAD = -1.0  # what the benchmark's scripts count for a judgement that they cannot read, in HSR and SSR alike
EXPECTS = (
    "the official data/ folder, or one of its files CATEGORY_constraints.json: rows {example_id, level, instruction, "
    "source, target}, each group's levels together and in order"
)


def read(path: Path) -> list[Task]:
    """A task a level from 1 on. Raises DataError for rows that are not the benchmark's, and for broken groups."""
    if not path.is_dir():
        files = [path]
    elif not (files := [file for name in CATEGORIES for file in sorted(path.glob(f"{name}_constraints.json*"))]):
        raise DataError(path, "no file of it lies there", mend=f"It takes {EXPECTS}")
    return [task for file in files for task in _file(file)]


def _file(path: Path) -> list[Task]:
    category = path.name.split("_constraints")[0]
    if category not in CATEGORIES:
        raise DataError(path, f"{category!r} is no category", mend=f"Name it {', '.join(CATEGORIES)}_constraints.json")
    first = 1 if category == "example" else 0
    tasks, chain, group = [], list[str](), -1
    for number, row in read_rows(path):
        fields = Fields(str(path), number, row, {"prompt": "instruction"})
        level, identity = _whole(fields, "level"), _whole(fields, "example_id")
        if level == first:
            group, chain = identity, []
        if (level, identity) != (first + len(chain), group):
            raise fields.wrong(
                "level", f"{level} of group {identity} is out of order", "Keep a group's levels in order"
            )
        chain.append(fields.text("instruction") or "")
        if level > 0:
            tasks.append(_task(fields, category, group, level, tuple(chain)))
        if level == LEVELS[-1]:
            group = -1
    if group != -1:
        raise DataError(path, f"group {group} ends at level {first + len(chain) - 1}", mend="Add its other levels")
    return tasks


def _task(fields: Fields, category: str, group: int, level: int, chain: tuple[str, ...]) -> Task:
    if not chain[-1].strip():
        raise fields.wrong("instruction", "empty", "Only level 0 may be")
    source, target = fields.text("source") or "", fields.text("target") or ""
    if category == "example" and "{answer}" not in target:
        raise fields.wrong("target", "holds no {answer}", "Write the form of the examples")
    if source in rules.TARGETS and category != "example":
        _check_target(fields, source, target)
    labels = {"category": category, "level": str(level), "group": f"{category}.{group}"}
    details = {"chain": chain, "group": group, "source": source, "target": target}
    return Task(f"{category}.{group}.{level}", fields.prompt(), labels, details)


def _check_target(fields: Fields, source: str, target: str) -> None:
    if not target:
        raise fields.wrong("target", f"missing, and rows of {source} are compared with it", "Add it")
    if source == "CONLL2003":
        try:
            rules.listed(target)
        except ValueError as error:
            raise fields.wrong("target", str(error), "Write a list of texts, ['a', 'b']") from error


def request(task: Task, response: str) -> JudgeRequest | Verdicts:
    """A verdict for each constraint that levels 1 to the task's own added; one for all of them where a rule decides."""
    category, level, given = task.labels["category"], int(task.labels["level"]), task.details
    if rules.decided(category, given["group"], given["source"]):
        met = rules.satisfied(category, given["group"], given["source"], level, given["target"], response)
        return (float(met),)
    steps = {f"step_{n}": given["chain"][n] if n < level else "" for n in range(len(LEVELS))}
    values = {"response": response, "count": str(level), "about": CATEGORIES[category], **steps}
    return JudgeRequest("added_constraints", values, level)


def upstream(task: Task, text: str) -> Verdicts:
    """A judge's answer as the benchmark's scripts read it, from its last line.

    At level 1, "YES" anywhere in it is a yes, else "NO" a no. Above, it holds a list of that many words, of which YES
    is a yes and NO, PARTIAL, MAYBE, UNKNOWN and N/A are noes. Anything else counts UNREAD, not 0.
    """
    level = int(task.labels["level"])
    last = text.strip("`").strip().split("\n")[-1]
    if level == 1:
        return (1.0,) if "YES" in last else (0.0,) if "NO" in last else (UNREAD,)
    found = re.search(r"\[.*\]", last)
    try:
        words = ast.literal_eval(found.group()) if found else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        words = None
    known = ("YES", "NO", "PARTIAL", "MAYBE", "UNKNOWN", "N/A")
    if not isinstance(words, list) or len(words) != level or not all(word in known for word in words):
        return (UNREAD,) * level
    return tuple(float(word == "YES") for word in words)


def hard(verdicts: Verdicts) -> float:
    """1 where all are satisfied, else 0; UNREAD stays what it is."""
    return UNREAD if UNREAD in verdicts else float(all(verdict == 1 for verdict in verdicts))


def soft(verdicts: Verdicts) -> float:
    """The share that is satisfied; UNREAD stays what it is."""
    return sum(verdicts) / len(verdicts)


def consistent_levels(hard_by_level: Mapping[int, float]) -> int:
    """How many levels from 1 on are wholly satisfied, up to the first that is not."""
    count = 0
    while hard_by_level.get(count + 1) == 1:
        count += 1
    return count


def figures(judged: Sequence[Judged]) -> PolicyFigures:
    """`hsr` and `ssr` in percent, `csl` in levels (0 to 5), with 95% bootstrap intervals over groups.

    A category's figure is the plain mean of its levels', that of all categories the plain mean of theirs. A group that
    lacks a judgement on some level has no CSL.
    """
    group_of = {each.task.id: each.task.labels["group"] for each in judged}
    found: dict[str, Figure | Estimate] = {}
    for name, rate in (("hsr", hard), ("ssr", soft)):
        cells: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
        for each in judged:
            labels = each.task.labels
            cells[labels["category"], int(labels["level"])][each.task.id] = rate(each.verdicts)
        for key, metric in _broken_down({cell: mean(values) for cell, values in cells.items()}).items():
            found[".".join((name, *key))] = figure(metric, group_of)
    consistencies, lacking = _consistencies(judged)
    if by_category := {name: mean(values) for name, values in consistencies.items()}:
        own = {group: group for values in consistencies.values() for group in values}
        found["csl"] = _in_levels(figure(average(list(by_category.values())), own))
        found |= {f"csl.{name}": _in_levels(figure(metric, own)) for name, metric in by_category.items()}
    by_rule = Counter(each.task.labels["category"] for each in judged if _by_rule(each.task))
    return PolicyFigures(found, _notes(judged, lacking), {"by_rule": dict(by_rule)})


def _broken_down(cells: Mapping[tuple[str, int], Metric]) -> dict[tuple[str, ...], Metric]:
    """Overall, by level, by category, by both; plain means over what is there."""
    categories = [name for name in CATEGORIES if any(name == category for category, _ in cells)]
    per_level = {
        n: [cells[name, n] for name in categories if (name, n) in cells]
        for n in LEVELS
        if any(level == n for _, level in cells)
    }
    rows = {name: {n: cells[name, n] for n in LEVELS if (name, n) in cells} for name in categories}
    found: dict[tuple[str, ...], Metric] = {(): average([average(list(row.values())) for row in rows.values()])}
    found |= {(f"level_{n}",): average(metrics) for n, metrics in per_level.items()}
    found |= {(name,): average(list(row.values())) for name, row in rows.items()}
    return found | {(name, f"level_{n}"): metric for name, row in rows.items() for n, metric in row.items()}


def _consistencies(judged: Sequence[Judged]) -> tuple[dict[str, dict[str, float]], int]:
    """Category -> group -> consistent levels, and how many groups lack a judgement on some level."""
    levels: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for each in judged:
        labels = each.task.labels
        levels[labels["category"], labels["group"]][int(labels["level"])] = hard(each.verdicts)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for name in CATEGORIES:
        for (category, group), by_level in levels.items():
            if category == name and len(by_level) == len(LEVELS):
                found[category][group] = consistent_levels(by_level)
    return dict(found), len(levels) - sum(map(len, found.values()))


def _in_levels(percent: Figure) -> Estimate:
    return Estimate(percent.value / 100, percent.low / 100, percent.high / 100, percent.n)


def _by_rule(task: Task) -> bool:
    return rules.decided(task.labels["category"], task.details["group"], task.details["source"])


def _notes(judged: Sequence[Judged], lacking: int) -> list[str]:
    notes = []
    there = {(each.task.labels["category"], int(each.task.labels["level"])) for each in judged}
    if absent := [name for name in CATEGORIES if not any(name == category for category, _ in there)]:
        notes.append(f"nothing is judged of {', '.join(absent)}; the figures over all categories are of the others")
    holes = [f"{name} {n}" for name in CATEGORIES for n in LEVELS if name not in absent and (name, n) not in there]
    if holes:
        notes.append(f"nothing is judged of these levels, and averages are of the others: {', '.join(holes)}")
    if lacking:
        notes.append(f"{lacking:,} groups lack a judgement on some level; they have no CSL")
    if unread := sum(UNREAD in each.verdicts for each in judged):
        notes.append(f"{unread:,} judgements that upstream cannot read count -1 each in HSR and SSR, as they do there")
    return notes


BENCHMARK = PolicyBenchmark(
    name="followbench",
    about="FollowBench: constraints of an instruction that are followed, level by level",
    expects=EXPECTS,
    read=read,
    request=request,
    figures=figures,
    upstream=upstream,
)


def _whole(fields: Fields, name: str) -> int:
    value = fields.require(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fields.wrong(name, f"{value!r:.40} is no whole number", "Write a whole number from 0 on")
    return value
