"""What a judge would be asked in an evaluation, of a reward model's benchmarks or of a policy's responses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_distiller.config import ChatModel
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.policy.protocol import PolicyBenchmark, Task
from reward_distiller.evaluate.policy.responses import Responses, match
from reward_distiller.recipes.answering import Loaded
from reward_distiller.recipes.judges import Judge, JudgeSettings, chat_model_of
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policy_evaluation import STEP, PolicyJudge, questions_of
from reward_distiller.recipes.preview.exchanges import Seen, Shown, keyless, named, watching
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question


def preview_evaluation(
    scorers: Sequence[str], settings: JudgeSettings, sets: Sequence[Loaded], ledger: Path, parts: Parts, count: int
) -> list[Seen]:
    """About the first `count` examples of each benchmark. Raises ConfigError where none of the scorers is a judge."""
    specs = [name.removeprefix("judge:") for name in scorers if name.startswith("judge:")]
    if not specs:
        raise ConfigError(f"nobody is asked: {', '.join(scorers)} is no judge. Only judge:MODEL@URL sends prompts")
    templates = Templates(settings.templates)
    with watching(parts, ledger, _stand_in) as engine:
        for spec in specs:
            judge = Judge(parts.chat_model(keyless(chat_model_of(spec, settings))), engine, templates, settings)
            for item in sets:
                judge.answer(item.examples[:count], lambda: None)
        return engine.seen


def preview_policy_evaluation(
    benchmark: PolicyBenchmark,
    tasks: Sequence[Task],
    responses: Responses,
    judge: PolicyJudge,
    ledger: Path,
    parts: Parts,
    count: int,
) -> list[Seen]:
    """About the first `count` responses; of one that a rule decides, its verdicts."""
    matched, _ = match(tasks, responses)
    answered = [task for task in tasks if task.id in matched][:count]
    requests, questions = questions_of(benchmark, answered, matched, judge, Templates())
    model = parts.chat_model(keyless(chat_model_of(judge.spec, JudgeSettings(endpoint=judge.endpoint))))
    with watching(parts, ledger, _stand_in) as engine:
        engine.ask(model, STEP, questions)
        asked = {question.id for question in questions}
        ruled = [
            Shown("rule", benchmark.name, task.id, f"decided without a judge: {requests[task.id]}")
            for task in answered
            if task.id not in asked
        ]
        return [*engine.seen, *ruled]


def _stand_in(model: ChatModel, step: str, question: Question[Any]) -> Answer[Any]:
    return Answer(0.0, named(step, model.model))
