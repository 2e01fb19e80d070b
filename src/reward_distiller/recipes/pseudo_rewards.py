"""Recipe `pseudo_rewards`: responses of a teacher or of a policy are sampled, and labeled by a vote or by a judge.

A run folder holds config.yaml, prompts.jsonl (the queries that are left, each with its consensus), responses.jsonl
(every response with its pseudo-reward), demonstrations.jsonl (the good ones of them), balance.json, quarantine.jsonl
and results.json; none of them holds a time. A killed run goes on: the teacher's answers are in the ledger, the policy's
in samples.jsonl. Where a truth is known, the labels are held against it when they are written; labeling never sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from reward_distiller.answers import Vote
from reward_distiller.balance import Balance
from reward_distiller.config import CONSENSUS, PseudoRewards
from reward_distiller.console import say, track
from reward_distiller.construct.labeled_responses import POLICY
from reward_distiller.construct.pipeline import check_failures
from reward_distiller.construct.pseudo_rewards import (
    Labeled,
    Query,
    Sample,
    demonstrations,
    hold_votes,
    read_queries,
    sample_teacher,
)
from reward_distiller.errors import TrainingError
from reward_distiller.evaluate.statistics import mean_figure
from reward_distiller.files import append_rows, fingerprint, write_json, write_rows
from reward_distiller.model.loading import device_of
from reward_distiller.model.trainer import exact
from reward_distiller.recipes.kept import kept
from reward_distiller.recipes.labeling import check_judge, form_of, labeler_of
from reward_distiller.recipes.made import make
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policies import open_policy, policy_path
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.store import TESTBED, Store, store_of
from reward_distiller.records import content_id
from reward_distiller.rl.policy import Policy
from reward_distiller.rl.training import seed_of
from reward_distiller.rows import rows_of
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.prompts import Templates

CHUNK = 16  # queries whose responses a policy writes between two writes to samples.jsonl
Truth = Callable[[Query, str], bool]  # whether a response is right
Groups = dict[str, Any]  # group -> name -> figure


def run_pseudo_rewards(config: PseudoRewards, parts: Parts) -> dict[str, Any]:
    """Do the whole run, what it stands on first; give what results.json holds."""
    _check_settings(config, parts)
    with run_folder(config) as folder:
        store = store_of(config)
        make(config, store)
        queries, balance = queries_of(config, parts, store)
        check_judge(config.labels, queries)
        run = _Labeling(folder, config, parts, store, [balance])
        try:
            return run.results(queries)
        finally:
            write_json(folder / "balance.json", [b.as_dict() for b in run.balances])
            write_rows(folder / "quarantine.jsonl", [row for b in run.balances for row in b.quarantine])


def check_pseudo_rewards(config: PseudoRewards, parts: Parts) -> None:
    """Find out before anything is made or paid for what would stop the run."""
    _check_settings(config, parts)
    if config.prompts.made_by is None:
        check_judge(config.labels, queries_of(config, parts, store_of(config))[0])


def _check_settings(config: PseudoRewards, parts: Parts) -> None:
    for model in config.chat_models:
        check_environment(model)
        parts.chat_model(model)
    form_of(config.labels.answers, parts)
    Templates(config.annotation.templates)
    device_of(config.device)


def queries_of(config: PseudoRewards, parts: Parts, store: Store) -> tuple[list[Query], Balance]:
    """The prompts of the config, and what became of the other rows."""
    source = store.source(config.prompts)
    own = parts.rows(source.testbed) if source.testbed else None
    where, rows = rows_of(source, own, config.seed)
    given = config.labels.field if config.labels.consensus == "given" else None
    return read_queries(where, rows, source.columns, form_of(config.labels.answers, parts), given)


class _Labeling:
    """One run: `balances` grows as its steps finish."""

    def __init__(self, folder: Path, config: PseudoRewards, parts: Parts, store: Store, balances: list[Balance]):
        self.folder, self.config, self.parts, self.store, self.balances = folder, config, parts, store, balances
        say(balances[0].line())

    def _note(self, balance: Balance) -> None:
        say(balance.line())
        self.balances.append(balance)
        check_failures(balance, self.config.annotation.allowed_failures)

    def results(self, queries: list[Query]) -> dict[str, Any]:
        config, parts = self.config, self.parts
        sampled = self._of_policy(queries) if config.policy else []
        models = [parts.chat_model(model) for model in config.chat_models]
        with open_engine(config.ledger_path, parts.transports, config.budget, models) as engine:
            if config.teacher is not None:
                teacher = parts.chat_model(config.teacher)
                sampled, balance = sample_teacher(queries, teacher, config.samples, config.temperatures, engine)
                self._note(balance)
            asked, answered = queries, sampled
            votes: dict[str, Vote] = {}
            if config.labels.consensus == "vote":
                form = form_of(config.labels.answers, parts)
                queries, votes, balance = hold_votes(queries, sampled, form, config.labels.min_consensus)
                self._note(balance)
                sampled = with_consensus(sampled, queries)
            labeled, balance = labeler_of(config.labels, config.annotation, parts, engine).label(sampled)
            self._note(balance)
            if config.chat_models:
                engine.say_calls()
            cost = engine.cost()
        if not labeled:
            raise TrainingError(f"no response is left. {self.folder / 'balance.json'} says what became of each")
        self._write(queries, votes, labeled)
        results: dict[str, Any] = {"recipe": config.recipe, "seed": config.seed, "sampler": labeled[0].sample.sampler}
        results |= figures_of(labeled, votes)
        if (truth := self._truth()) is not None:
            results = joined(results, truth_figures(asked, answered, queries, labeled, truth))
        results |= {"counts": {"queries": len(queries), "responses": len(labeled)}, "cost": cost}
        write_json(self.folder / "results.json", results)
        return results

    def _write(self, queries: Sequence[Query], votes: dict[str, Vote], labeled: Sequence[Labeled]) -> None:
        """Of the queries' rows all that they hold is handed on, so that whoever evaluates finds a gold answer there."""
        rows = [
            {**q.row, "prompt": q.prompt.as_dicts(), "open_ended": q.open_ended}
            | ({CONSENSUS: q.consensus} if q.consensus is not None else {})
            | ({"consensus_share": round(votes[q.prompt.id].share, 4)} if q.prompt.id in votes else {})
            for q in queries
        ]
        write_rows(self.folder / "prompts.jsonl", rows)
        write_rows(self.folder / "responses.jsonl", map(_row, labeled))
        settings = self.config.demonstrations
        chosen, balance = demonstrations(labeled, settings.min_reward, settings.per_prompt)
        self._note(balance)
        write_rows(self.folder / "demonstrations.jsonl", map(_row, chosen))

    def _truth(self) -> Truth | None:
        """Whether a response is right: as the testbed knows, or as the field `audit` of the row says."""
        config = self.config
        if config.labels.answers.format == TESTBED:
            return lambda query, text: self.parts.quality(query.prompt.messages[-1].content, text) >= 1
        if config.audit is None:
            return None
        form, field = form_of(config.labels.answers, self.parts), config.audit

        def right(query: Query, text: str) -> bool:
            gold, answer = form.extract(str(query.row.get(field))), form.extract(text)
            return gold is not None and answer is not None and form.same(answer, gold)

        return right

    # -- a policy's responses -------------------------------------------------------------------------

    def _of_policy(self, queries: Sequence[Query]) -> list[Sample]:
        """In chunks, each with a seed of its own; one that an earlier run has written is not sampled again."""
        config = self.config
        assert config.policy is not None
        path = policy_path(config.policy, self.parts, self.store)
        limit, device = config.max_response_length, device_of(config.device)
        of_temperature = {
            temperature: open_policy(config.policy, path, limit, device=device, temperature=temperature)
            for temperature in dict.fromkeys(config.temperatures)
        }
        any_policy = next(iter(of_temperature.values()))
        balance = Balance("sample policy", "queries", len(queries))
        fitting = []
        for query in queries:
            if len(any_policy.opening(query.prompt.as_dicts())) > config.max_prompt_length:
                balance.lose("dropped", f"more than {config.max_prompt_length} tokens", query.prompt.id)
            else:
                fitting.append(query)
                balance.keep()
        self._note(balance.check())
        whose = content_id(
            [fingerprint(path), config.samples, config.temperatures, config.max_response_length, config.seed]
        )
        file = self.folder / "samples.jsonl"
        known: dict[str, list[list[str]]] = kept(file, lambda row: row["texts"], "its responses are sampled again")
        write_rows(file, ({"key": key, "texts": texts} for key, texts in known.items()))  # no torn line of a killed run
        found: list[Sample] = []
        with exact(config.threads), track("sample policy", len(fitting)) as advance:
            for start in range(0, len(fitting), CHUNK):
                chunk = fitting[start : start + CHUNK]
                key = content_id([whose, [query.prompt.id for query in chunk]])
                if key not in known:
                    known[key] = _sampled(chunk, of_temperature, config, key)
                    append_rows(file, [{"key": key, "texts": known[key]}])
                for query, texts in zip(chunk, known[key], strict=True):
                    found += [
                        Sample(query, number, text, POLICY, config.temperatures[number % len(config.temperatures)])
                        for number, text in enumerate(texts)
                    ]
                    advance()
        return found


def _sampled(
    chunk: Sequence[Query], of_temperature: dict[float, Policy], config: PseudoRewards, key: str
) -> list[list[str]]:
    """`samples` texts of each query of the chunk."""
    torch.manual_seed(seed_of("sample policy", key))
    texts: list[list[str]] = [[""] * config.samples for _ in chunk]
    for temperature, policy in of_temperature.items():
        numbers = [n for n in range(config.samples) if config.temperatures[n % len(config.temperatures)] == temperature]
        openings = [policy.opening(query.prompt.as_dicts()) for query in chunk]
        sampled = iter(policy.sample([opening for opening in openings for _ in numbers]))
        for own in texts:
            for number in numbers:
                own[number] = next(sampled).text
    return texts


def with_consensus(samples: Sequence[Sample], queries: Sequence[Query]) -> list[Sample]:
    """The samples of the queries that are left, each with its query as it is now."""
    of_id = {query.prompt.id: query for query in queries}
    return [replace(s, query=of_id[s.query.prompt.id]) for s in samples if s.query.prompt.id in of_id]


def _row(labeled: Labeled) -> dict[str, Any]:
    sample = labeled.sample
    return {
        "prompt": sample.query.prompt.as_dicts(),
        "response": sample.text,
        "reward": round(labeled.reward, 6),
        "answer": labeled.answer,
        "sampler": sample.sampler,
        "sample": sample.number,
        "temperature": sample.temperature,
    }


# -- figures ----------------------------------------------------------------------------------------


def figures_of(labeled: Sequence[Labeled], votes: dict[str, Vote]) -> Groups:
    """Means over queries with bootstrap intervals, in percent."""
    figures = {"responses": {"pseudo_reward": _mean([[e.reward for e in own] for own in _by_query(labeled).values()])}}
    held = [[vote.share] for vote in votes.values() if vote.answer is not None]
    return figures | ({"vote": {"share": _mean(held)}} if held else {})


def truth_figures(
    asked: Sequence[Query],
    answered: Sequence[Sample],
    left: Sequence[Query],
    labeled: Sequence[Labeled],
    truth: Truth,
) -> Groups:
    """How good the responses are, and the labels, which have not seen the truth.

    `chosen` is what all samples of a query together come to: the consensus, or the response that the judge likes best;
    a query without one counts as wrong. The accuracy of responses is over all that came, dropped queries included.
    """
    right: dict[str, list[bool]] = {}
    for sample in answered:
        right.setdefault(sample.query.prompt.id, []).append(truth(sample.query, sample.text))
    of_query, consensus = _by_query(labeled), {query.prompt.id: query.consensus for query in left}
    labels = [[(e.reward >= 0.5) == truth(e.sample.query, e.sample.text) for e in own] for own in of_query.values()]
    chosen: list[bool] = []
    for query in asked:
        text = consensus.get(query.prompt.id)
        if query.open_ended and (own := of_query.get(query.prompt.id)):
            text = max(own, key=lambda each: (each.reward, -each.sample.number)).sample.text
        chosen.append(text is not None and truth(query, text))
    voted = [[truth(query, query.consensus)] for query in left if query.consensus is not None]
    return {
        "responses": {"accuracy": _mean(list(right.values())), "labels_right": _mean(labels)},
        **({"vote": {"accuracy": _mean(voted)}} if voted else {}),
        "chosen": {"accuracy": _mean([[value] for value in chosen])},
    }


def joined(ours: Groups, more: Groups) -> Groups:
    """Groups of figures, those of the same name together."""
    return {**ours, **{name: {**ours.get(name, {}), **figures} for name, figures in more.items()}}


def _by_query(labeled: Sequence[Labeled]) -> dict[str, list[Labeled]]:
    found: dict[str, list[Labeled]] = {}
    for each in labeled:
        found.setdefault(each.sample.query.prompt.id, []).append(each)
    return found


def _mean(of_queries: Sequence[Sequence[float]]) -> dict[str, float]:
    return mean_figure([100 * fmean(values) for values in of_queries]).as_dict()
