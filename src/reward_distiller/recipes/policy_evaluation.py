"""Recipe `policy evaluate`: what a judge makes of a policy's responses to a benchmark, as figures with intervals.

The folder holds results.json, table.md, what was said of every response (judgements.jsonl), and raw answers that could
not be read (quarantine.jsonl). All answers are in ledger.sqlite, so a killed evaluation goes on and buys nothing twice.
Knows no benchmark's rules and no judge's prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance, Failed, Quarantined
from reward_distiller.config import fill_data_folder
from reward_distiller.console import say
from reward_distiller.errors import ConfigError, DataError
from reward_distiller.evaluate.policy.protocol import Judged, JudgeRequest, PolicyBenchmark, PolicyFigures, Task
from reward_distiller.evaluate.policy.responses import Responses, match
from reward_distiller.files import fingerprint, locked, remove_partial, write_rows
from reward_distiller.recipes.judges import JudgeSettings, chat_model_of
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policy_results import markdown, shown, write
from reward_distiller.records import content_id
from reward_distiller.teacher.endpoint import build_request, check_environment
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.ledger_report import bought
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.verdicts import KINDS, Verdicts

STEP = "policy: judge"


@dataclass(frozen=True)
class PolicyJudge:
    """MODEL@URL and how it is asked. `endpoint` holds further fields of its ChatModel, as in a config.

    Without `probabilities` no log-probabilities are asked for where a kind of judgement would: some servers refuse
    them. `upstream` reads answers as the benchmark's own scripts do.
    """

    spec: str
    endpoint: Mapping[str, Any]
    probabilities: bool = True
    upstream: bool = False


def load_tasks(benchmark: PolicyBenchmark, path: str | None) -> list[Task]:
    """From a file or folder, or from the folder of the benchmark's name in $REWARD_DISTILLER_DATA.

    Raises DataError for what is not the benchmark's.
    """
    place = Path(fill_data_folder(path or f"$REWARD_DISTILLER_DATA/{benchmark.name}"))
    mend = f"{benchmark.name} expects {benchmark.expects}"
    if not place.exists():
        raise DataError(place, "there is no such file or folder", mend=mend)
    tasks = list(benchmark.read(place))
    if not tasks:
        raise DataError(place, "no row makes a task", mend=mend)
    (name, count), *_ = Counter(task.id for task in tasks).most_common(1)
    if count > 1:
        raise DataError(place, f"{count} tasks have the id {name!r}", mend=mend)
    return tasks


def evaluate_policy(
    benchmark: PolicyBenchmark,
    tasks: Sequence[Task],
    responses: Responses,
    judge: PolicyJudge,
    output: Path,
    parts: Parts,
) -> dict[str, Any]:
    """Give what results.json holds.

    Raises ConfigError before any call is made, CallsFailed where the judge's server gave up.
    """
    if judge.upstream and benchmark.upstream is None:
        raise ConfigError(
            f"{benchmark.name}: it has no other reading of a judge's answers. Leave --upstream-compat out"
        )
    matched, rows = match(tasks, responses)
    say(rows.line())
    model = parts.chat_model(chat_model_of(judge.spec, JudgeSettings(endpoint=judge.endpoint)))
    check_environment(model)
    templates = Templates()
    with locked(output / ".lock", ConfigError), open_engine(output / "ledger.sqlite", parts.transports) as engine:
        remove_partial(output)
        answered = [task for task in tasks if task.id in matched]
        requests, questions = questions_of(benchmark, answered, matched, judge, templates)
        answers = Balance(STEP, "responses", 0)
        outcomes = engine.ask_counted(model, STEP, questions, answers)
        engine.say_calls()
        cost = bought(engine.ledger, model, STEP)
    said = [_said(benchmark, task, matched[task.id], requests[task.id], outcomes.get(task.id)) for task in answered]
    judged = [Judged(each.task, each.response, v) for each in said if (v := each.verdicts(judge.upstream)) is not None]
    unread = Counter(each.why for each in said if each.verdicts(judge.upstream) is None)
    asked_of_judge = {k: v for k, v in build_request(model, [], 0).items() if k not in ("messages", "sample")}
    kinds = sorted({r.kind for r in requests.values() if isinstance(r, JudgeRequest)})
    results: dict[str, Any] = {
        "benchmark": benchmark.name,
        "policy": responses.model,
        "responses": fingerprint(responses.path),
        "judge": asked_of_judge,
        "templates": {kind: content_id(templates.source(KINDS[kind].template)) for kind in kinds},
        "reading": "upstream" if judge.upstream else "strict",
        **shown(benchmark.figures(judged) if judged else PolicyFigures({}, ["no response has a judgement"])),
        "tasks": {
            "in": len(tasks),
            "answered": len(answered),
            "no_response": len(tasks) - len(answered),
            "judged": len(judged),
            "by_rule": len(answered) - len(questions),
            "no_judgement": dict(sorted(unread.items())),
        },
        "rows": rows.as_dict(),
        "cost": cost,
    }
    if benchmark.upstream is not None:
        results["tasks"]["read_otherwise_upstream"] = sum(each.read_otherwise for each in said)
    write_rows(output / "judgements.jsonl", [each.row(judge.upstream) for each in said])
    write(output, results, answers.check().quarantine, _policy_table(results))
    return results


def questions_of(
    benchmark: PolicyBenchmark,
    answered: Sequence[Task],
    matched: Mapping[str, str],
    judge: PolicyJudge,
    templates: Templates,
) -> tuple[dict[str, JudgeRequest | Verdicts], list[Question[Verdicts]]]:
    """By task what decides about its response, and what the judge is asked; `matched` are responses by task."""
    requests = {task.id: benchmark.request(task, matched[task.id]) for task in answered}
    questions = [
        KINDS[r.kind].question(task.id, task.prompt, r.values, r.count, templates, judge.probabilities)
        for task in answered
        if isinstance(r := requests[task.id], JudgeRequest)
    ]
    return requests, questions


@dataclass(frozen=True)
class _Said:
    """What was said of a response: by a rule, or by a judge, read strictly and as upstream reads it (`loose`)."""

    task: Task
    response: str
    strict: Verdicts | None
    loose: Verdicts | None
    why: str = ""  # there is no strict reading
    text: str | None = None  # the judge's answer; the first of several that could not be read

    def verdicts(self, upstream: bool) -> Verdicts | None:
        return self.loose if upstream else self.strict

    @property
    def read_otherwise(self) -> bool:
        return self.strict != self.loose

    def row(self, upstream: bool) -> dict[str, Any]:
        verdicts = self.verdicts(upstream)
        found = {"task": self.task.id, "prompt": self.task.prompt.id, "answer": self.text}
        return {**found, "verdicts": list(verdicts)} if verdicts is not None else {**found, "no_judgement": self.why}


def _said(
    benchmark: PolicyBenchmark,
    task: Task,
    response: str,
    request: JudgeRequest | Verdicts,
    outcome: Answer[Verdicts] | Quarantined | Failed | None,
) -> _Said:
    if not isinstance(request, JudgeRequest):
        return _Said(task, response, request, request)
    assert outcome is not None
    if isinstance(outcome, Failed):
        return _Said(task, response, None, None, outcome.summary)
    text = outcome.text if isinstance(outcome, Answer) else outcome.texts[0]
    strict = outcome.value if isinstance(outcome, Answer) else None
    loose = benchmark.upstream(task, text) if benchmark.upstream else strict
    why = outcome.summary if isinstance(outcome, Quarantined) else "upstream leaves it out"
    return _Said(task, response, strict, loose, why, text)


def _policy_table(results: dict[str, Any]) -> str:
    """As Markdown: a figure a row, then what became of the tasks."""
    tasks = results["tasks"]
    parts = [f"{tasks['in']:,} tasks: {tasks['judged']:,} judged, {tasks['by_rule']:,} of them by a rule"]
    parts += [f"{tasks['no_response']:,} without a response"] if tasks["no_response"] else []
    parts += [f"{count:,} without a judgement ({why})" for why, count in tasks["no_judgement"].items()]
    lines = ["; ".join(parts) + "."]
    if "read_otherwise_upstream" in tasks:
        lines.append(
            f"Answers read {results['reading']}; {tasks['read_otherwise_upstream']:,} read otherwise upstream."
        )
    title = results["benchmark"] + (f": {results['policy']}" if results["policy"] else "")
    return markdown(title, results, lines)
