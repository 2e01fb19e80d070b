"""Pseudo-rewards of sampled responses: by a majority vote over final answers, or by a judge (arXiv 2502.19557).

A *query* is a prompt to which several responses are sampled. Of its row, labeling reads the prompt, whether it is
open-ended and, where it is told to, the consensus; nothing else, and no gold answer. Knows no policy and no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reward_distiller.answers import AnswerFormat, Vote, vote
from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel, Labels
from reward_distiller.construct.candidates import candidate_questions
from reward_distiller.construct.responses import response_id
from reward_distiller.construct.scoring import Scores, Scoring
from reward_distiller.files import Row
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields, Rows
from reward_distiller.teacher.engine import Engine
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer

JUDGE = "judge responses"  # the step, as the ledger names it


@dataclass(frozen=True)
class Query:
    """`consensus` is the answer that counts as right; None of an open-ended query, and before the vote."""

    prompt: Prompt
    row: Row
    open_ended: bool = False
    consensus: str | None = None


@dataclass(frozen=True)
class Sample:
    """One response to a query: the `number`-th."""

    query: Query
    number: int
    text: str
    sampler: str
    temperature: float


@dataclass(frozen=True)
class Labeled:
    """A response with its pseudo-reward in 0..1, and its final answer where it has one to compare."""

    sample: Sample
    reward: float
    answer: str | None = None


def read_queries(
    where: str, rows: Rows, columns: dict[str, str], form: AnswerFormat, given: str | None = None
) -> tuple[list[Query], Balance]:
    """Distinct queries in the order of the rows. `given` names the field of the consensus, where one is to be read.

    Raises DataError for a row that says of itself what it cannot be.
    """
    seen: dict[str, Query] = {}
    balance = Balance("load queries", "rows", 0)
    for number, row in rows:
        balance.total += 1
        fields = Fields(where, number, row, columns)
        prompt, open_ended = fields.prompt(), fields.get("open_ended")
        if open_ended is not None and not isinstance(open_ended, bool):
            raise fields.wrong("open_ended", f"{open_ended!r:.40}, not true or false", "Write true or false")
        consensus = _given(fields, given, form) if given is not None and not open_ended else None
        if not prompt.messages[-1].content.strip():
            balance.lose("dropped", "empty prompt", f"row {number}")
        elif prompt.id in seen:
            balance.lose("dropped", "duplicate prompt", f"row {number}")
        else:
            seen[prompt.id] = Query(prompt, row, bool(open_ended), consensus)
            balance.keep()
    return list(seen.values()), balance.check()


def _given(fields: Fields, name: str, form: AnswerFormat) -> str:
    value = fields.require(name)
    found = form.extract(str(value)) if isinstance(value, str | int | float) else None
    if found is None:
        raise fields.wrong(name, f"{value!r:.60} is no answer of that format", "Mend it, or labels.answers.format")
    return found


def sample_teacher(
    queries: Sequence[Query], teacher: ChatModel, count: int, temperatures: Sequence[float], engine: Engine
) -> tuple[list[Sample], Balance]:
    """`count` responses of the teacher to each query, at the temperatures in turn; those of a query side by side."""
    prompts = [query.prompt for query in queries]
    found: dict[tuple[str, int], Sample] = {}
    balance = Balance("sample teacher", "responses", len(queries) * count)
    for number in range(count):
        temperature = temperatures[number % len(temperatures)]
        model = at_temperature(teacher, temperature)
        first = number // len(temperatures) * teacher.max_asks
        questions = [replace(question, first_sample=first) for question in candidate_questions(prompts)]
        outcomes = engine.ask(model, "sample teacher", questions)
        for query in queries:
            outcome = outcomes[query.prompt.id]
            if isinstance(outcome, Answer):
                found[query.prompt.id, number] = Sample(query, number, outcome.value, teacher.model, temperature)
                balance.keep()
            else:
                balance.lose_to(outcome, query.prompt.id, teacher.model)
    ordered = [found.get((query.prompt.id, number)) for query in queries for number in range(count)]
    return [sample for sample in ordered if sample is not None], balance.check()


def at_temperature(model: ChatModel, temperature: float) -> ChatModel:
    return model.model_copy(update={"sampling": model.sampling.model_copy(update={"temperature": temperature})})


def hold_votes(
    queries: Sequence[Query], samples: Sequence[Sample], form: AnswerFormat, min_consensus: float
) -> tuple[list[Query], dict[str, Vote], Balance]:
    """The queries that are left, with their consensus, and the vote of each verifiable one by id.

    A verifiable query is dropped where no answer has the most votes, or too few of them; an open-ended one stays.
    """
    answers: dict[str, list[str | None]] = {query.prompt.id: [] for query in queries}
    for sample in samples:
        answers[sample.query.prompt.id].append(None if sample.query.open_ended else form.extract(sample.text))
    votes: dict[str, Vote] = {}
    left: list[Query] = []
    balance = Balance("vote", "queries", len(queries))
    for query in queries:
        identity = query.prompt.id
        if query.open_ended:
            balance.count("open-ended")
        else:
            votes[identity] = vote(answers[identity], form.same, min_consensus)
        found = votes.get(identity)
        if found is not None and found.answer is None:
            balance.lose("dropped", found.reason or "no answer", identity)
        else:
            left.append(replace(query, consensus=found.answer if found else None))
            balance.keep()
    return left, votes, balance.check()


@dataclass(frozen=True)
class Labeler:
    """Gives pseudo-rewards. `judge` scores what cannot be checked; None where nothing of the kind is to come."""

    labels: Labels
    form: AnswerFormat
    judge: Scoring | None = None

    def checks(self, query: Query) -> bool:
        """Whether a query's responses are compared with its consensus, and not judged."""
        return not (query.open_ended or self.labels.judges_all)

    def label(self, samples: Sequence[Sample]) -> tuple[list[Labeled], Balance]:
        """In order. What the judge gives no usable score is lost: it never gets a value."""
        scores = self._judged([sample for sample in samples if not self.checks(sample.query)])
        labeled: list[Labeled] = []
        balance = Balance("label", "responses", len(samples))
        for sample in samples:
            if self.checks(sample.query):
                labeled.append(self._compared(sample))
                if labeled[-1].answer is None:
                    balance.count("without a final answer")
                balance.keep()
                continue
            outcome = scores[response_id(sample.query.prompt, sample.text)]
            if isinstance(outcome, Scores):
                labeled.append(Labeled(sample, (outcome.values[0] - 1) / 9))
                balance.keep()
            else:
                balance.lose_to(outcome, f"{sample.query.prompt.id}#{sample.number}", self._scoring.teacher.model)
        return labeled, balance.check()

    def _compared(self, sample: Sample) -> Labeled:
        """A response without a final answer is wrong; so is one whose answer is another than the consensus."""
        consensus, answer = sample.query.consensus, self.form.extract(sample.text)
        assert consensus is not None
        right = answer is not None and self.form.same(answer, consensus)
        return Labeled(sample, float(right), answer)

    def _judged(self, samples: Sequence[Sample]) -> Mapping[str, Any]:
        if not samples:
            return {}
        distinct = {response_id(s.query.prompt, s.text): s for s in samples}
        templates = self._scoring.templates
        dialogues = [(identity, judge_dialogue(s.query.prompt, s.text, templates)) for identity, s in distinct.items()]
        return self._scoring.of_dialogues(JUDGE, dialogues)

    @property
    def _scoring(self) -> Scoring:
        assert self.judge is not None  # who makes a labeler without one has seen that nothing is open-ended
        return self.judge


def judge_dialogue(prompt: Prompt, response: str, templates: Templates) -> list[dict[str, str]]:
    """The judge sees one response, and gives one score from 1 to 10."""
    text, _ = templates.render("judge_pointwise", prompt, response=response)
    return [{"role": "user", "content": text}]


def demonstrations(
    labeled: Sequence[Labeled], min_reward: float, per_prompt: int | None
) -> tuple[list[Labeled], Balance]:
    """Distinct responses with a high pseudo-reward, the best `per_prompt` of each query; earlier samples first.

    A query with none is dropped and counted.
    """
    of_query: dict[str, list[Labeled]] = {}
    for each in labeled:
        of_query.setdefault(each.sample.query.prompt.id, []).append(each)
    balance = Balance("demonstrations", "queries", len(of_query))
    chosen: list[Labeled] = []
    for identity, own in of_query.items():
        distinct = {each.sample.text: each for each in reversed(own) if each.reward >= min_reward}
        best = sorted(distinct.values(), key=lambda each: (-each.reward, each.sample.number))[:per_prompt]
        chosen += best
        if best:
            balance.keep()
        else:
            balance.lose("dropped", f"no response with a pseudo-reward of {min_reward:g}", identity)
    return chosen, balance.check()
