"""Responses that are sampled and labeled: the prompts of the teacher or the policy, the judge's request, the vote.

A vote is held, and labels are made, where all responses of a prompt are there: a stand-in has no final answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_distiller.config import ChatModel, DataAndRewards, DataSource, Labels, Policy, PseudoRewards
from reward_distiller.construct.labeled_responses import POLICY
from reward_distiller.construct.pseudo_rewards import JUDGE, Labeler, Query, Sample, hold_votes, sample_teacher
from reward_distiller.construct.responses import response_id
from reward_distiller.construct.scoring import Scores
from reward_distiller.errors import ConfigError
from reward_distiller.recipes.labeling import check_judge, labeler_of
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policies import policy_chat
from reward_distiller.recipes.preview.exchanges import Seen, Watching, keyless, named, watching
from reward_distiller.recipes.pseudo_rewards import queries_of, with_consensus
from reward_distiller.recipes.store import Store, store_of
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.questions import Answer, Question

SAMPLE, PROMPT = "sample teacher", "prompt policy"
OF_POLICY = "⟨the policy's response⟩"


def preview_responses(config: PseudoRewards, parts: Parts, count: int, *, ask: bool) -> list[Seen]:
    """About the first `count` prompts: the sampling, the vote, the judge, the labels."""
    if ask:
        for model in config.chat_models:
            check_environment(model)
    else:
        config = _keyless(config)
    store = store_of(config)
    source_there(config.prompts, store)
    queries = queries_of(config, parts, store)[0][:count]
    check_judge(config.labels, queries)
    models = [parts.chat_model(model) for model in config.chat_models]
    with watching(parts, config.ledger_path, stand_in, buys=ask, caps=config.budget, models=models) as engine:
        labeler = labeler_of(config.labels, config.annotation, parts, engine)
        if config.policy is not None:
            show_prompts(engine, config.policy, queries, config.max_prompt_length, parts, store)
            ask_judge(labeler, queries)
        else:
            _of_teacher(config, queries, labeler, parts, engine)
        return engine.seen


def preview_data_and_rewards(config: DataAndRewards, parts: Parts, count: int, *, ask: bool) -> list[Seen]:
    """The teacher's responses and their labels; then what the student is prompted with, and the judge about that."""
    store = store_of(config)
    runs = [store.made(made) for made in config.made.values()]
    asking = [run for run in runs if isinstance(run, PseudoRewards) and run.teacher is not None]
    found = [each for run in asking for each in preview_responses(run, parts, count, ask=ask)]
    queries = queries_of(asking[0], parts, store)[0][:count]
    labels = config.labels.model_copy(update={"judges_all": config.reward == "judge"})
    if labels.judge is not None:
        labels = labels.model_copy(update={"judge": keyless(labels.judge)})
    with watching(parts, asking[0].ledger_path, stand_in) as engine:
        show_prompts(engine, config.student, queries, config.rollout.max_prompt_length, parts, store)
        ask_judge(labeler_of(labels, config.annotation, parts, engine), queries)
        return [*found, *engine.seen]


def source_there(given: DataSource, store: Store) -> DataSource:
    """As a file. Raises ConfigError where another run has still to write it."""
    source = store.source(given)
    if given.made_by is not None and not source.file.is_file():
        raise ConfigError(f"{source.path} is still to be made by another run. Preview that one's config first")
    return source


def stand_in(model: ChatModel, step: str, question: Question[Any]) -> Answer[Any]:
    name = named(step, model.model)
    return Answer(Scores((5.0,)) if step == JUDGE else name, name)


def show_prompts(
    engine: Watching, settings: Policy, queries: Sequence[Query], limit: int, parts: Parts, store: Store
) -> None:
    """Each prompt as the policy's chat template renders it."""
    chat = policy_chat(settings, parts, store)
    for query in queries:
        messages = query.prompt.as_dicts()
        text = chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        size = len(chat.opening(messages))
        dropped = f", more than {limit}: dropped" if size > limit else ""
        engine.show(PROMPT, Path(chat.where).name, f"{query.prompt.id}, {size} tokens{dropped}", str(text))


def ask_judge(labeler: Labeler, queries: Sequence[Query]) -> None:
    """The judge about a response of the policy to each query whose responses it judges."""
    if labeler.judge is not None:
        labeler.label([Sample(query, 0, OF_POLICY, POLICY, 1.0) for query in queries if not labeler.checks(query)])


def _of_teacher(config: PseudoRewards, queries: list[Query], labeler: Labeler, parts: Parts, engine: Watching) -> None:
    assert config.teacher is not None
    teacher = parts.chat_model(config.teacher)
    samples, _ = sample_teacher(queries, teacher, config.samples, config.temperatures, engine)
    whole = [query for query in queries if (SAMPLE, query.prompt.id) not in engine.unanswered]
    if config.labels.consensus == "vote":
        whole = _vote(config.labels, whole, queries, samples, labeler, engine)
    known = {query.prompt.id for query in whole}
    labeled = [s for s in with_consensus(samples, whole) if labeler.checks(s.query)]
    judged = [s for s in samples if not labeler.checks(s.query)]
    for each in labeler.label([*labeled, *judged])[0]:
        query = each.sample.query
        scored = labeler.checks(query) or (JUDGE, response_id(query.prompt, each.sample.text)) not in engine.unanswered
        if query.prompt.id in known and scored:
            answer = "" if each.answer is None else f", final answer {each.answer}"
            engine.show("label", "", f"{query.prompt.id}#{each.sample.number}", f"{each.reward:g}{answer}")


def _vote(
    labels: Labels,
    whole: Sequence[Query],
    queries: Sequence[Query],
    samples: Sequence[Sample],
    labeler: Labeler,
    engine: Watching,
) -> list[Query]:
    """The queries that the vote leaves; what it comes to, or that it cannot be held, is shown."""
    known = {query.prompt.id for query in whole}
    left, votes, _ = hold_votes(
        whole, [s for s in samples if s.query.prompt.id in known], labeler.form, labels.min_consensus
    )
    for query in queries:
        if query.open_ended:
            continue
        vote = votes.get(query.prompt.id)
        if vote is None:
            said = "not held: not all responses are there"
        elif vote.answer is None:
            said = f"dropped: {vote.reason or 'no answer'}"
        else:
            said = f"{vote.answer}, by {100 * vote.share:.0f}% of all responses"
        engine.show("vote", "", query.prompt.id, said)
    return left


def _keyless(config: PseudoRewards) -> PseudoRewards:
    labels, teacher = config.labels, config.teacher
    if labels.judge is not None:
        labels = labels.model_copy(update={"judge": keyless(labels.judge)})
    return config.model_copy(update={"labels": labels, "teacher": teacher and keyless(teacher)})
