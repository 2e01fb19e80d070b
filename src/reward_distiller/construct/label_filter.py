"""Labels that a judge confirms: a pair is kept where the verdicts of both orders prefer its chosen response.

For test sets, where a wrong label costs more than a lost pair. The paper had an LLM filter its Arabic one (section
4.5); asking in both orders leaves out what only the judge's position bias decides (Zheng et al., 2023). Knows no files;
the prompts are `teacher/judging.py`'s.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from reward_distiller.balance import Balance, Failed, Fate, Quarantined
from reward_distiller.config import ChatModel
from reward_distiller.errors import ConfigError
from reward_distiller.records import Pair
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.judging import JudgeFormat, format_named
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question

STEP = "filter labels"
Outcome = Answer[float] | Quarantined | Failed


def confirmed(
    engine: Engine,
    judge: ChatModel,
    pairs: Sequence[Pair],
    templates: Templates,
    *,
    format: str = "pairwise_ranking",
    reasoning: bool = False,
    count: int | None = None,
    seed: int = 0,
) -> tuple[list[Pair], list[Balance]]:
    """The confirmed pairs in the order given, and the balances of the judge's answers and of the pairs.

    With `count`, pairs are drawn in an order that seed and pair alone decide, until so many are confirmed. As many are
    asked at a time as are still missing, so none is asked that is not needed. Raises ConfigError for a format that does
    not show two responses, CallsFailed where the server gave up on a question that it may answer another time.
    """
    form = pairwise_format(format, reasoning)
    answers = Balance(f"{STEP}: judge", "answers", 0)
    balance = Balance(STEP, "pairs", len(pairs))
    waiting = []
    for pair in pairs:
        if pair.chosen == pair.rejected:
            balance.lose("dropped", "equal responses", pair.id)
        else:
            waiting.append(pair)
    if count is not None:
        waiting.sort(key=lambda pair: random.Random(f"{STEP}:{seed}:{pair.id}").random())
    kept: set[str] = set()
    while waiting and (count is None or len(kept) < count):
        size = len(waiting) if count is None else count - len(kept)
        drawn, waiting = waiting[:size], waiting[size:]
        outcomes = _ask(engine, judge, form, drawn, templates, reasoning, answers)
        for pair in drawn:
            lost = _lost(*(outcomes[identity] for identity in _identities(pair)))
            if lost:
                balance.lose(*lost, pair.id)
            else:
                balance.keep()
                kept.add(pair.id)
    for pair in waiting:
        balance.lose("filtered", "not needed", pair.id)
    return [pair for pair in pairs if pair.id in kept], [answers.check(), balance.check()]


def pairwise_format(name: str, reasoning: bool = False) -> JudgeFormat:
    """Raises ConfigError for a format that is none, or that shows one response."""
    form = format_named(name, reasoning)
    if not form.pairwise:
        raise ConfigError(f"judge format {name} shows one response, and has no order. Use pairwise_ranking")
    return form


def _ask(
    engine: Engine,
    judge: ChatModel,
    form: JudgeFormat,
    pairs: Sequence[Pair],
    templates: Templates,
    reasoning: bool,
    answers: Balance,
) -> Mapping[str, Outcome]:
    """The outcomes of both orders of each pair, by identity; what became of them is added to `answers`."""
    questions: list[Question[float]] = []
    for pair in pairs:
        shown = (pair.chosen, pair.rejected)
        for identity, responses in zip(_identities(pair), (shown, shown[::-1]), strict=True):
            questions.append(form.question(identity, pair.prompt, responses, templates, reasoning))
    return engine.ask_counted(judge, STEP, questions, answers)


def _identities(pair: Pair) -> tuple[str, str]:
    """Of the questions that show the chosen response first and second."""
    return f"{pair.id}:chosen_first", f"{pair.id}:rejected_first"


def _lost(chosen_first: Outcome, rejected_first: Outcome) -> tuple[Fate, str] | None:
    """Why the two verdicts do not confirm the label, or None where they do."""
    leads = []  # of the chosen response over the rejected one
    for outcome, sign in ((chosen_first, 1), (rejected_first, -1)):
        if isinstance(outcome, Failed):
            return "failed", outcome.summary
        if isinstance(outcome, Quarantined):
            return "quarantined", outcome.summary
        leads.append(sign * outcome.value)
    if min(leads) > 0:
        return None
    if max(leads) < 0:
        return "disagreed", "the judge prefers the rejected response in both orders"
    if 0 in leads:
        return "tied", "a tie in one order at least"
    return "disagreed", "the verdict changes with the order"
