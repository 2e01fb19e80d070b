"""Anyone's own pairs and best-of-N lists, as benchmarks.

`pairs` takes TRL's preference formats: text or conversations, with a prompt or with one that both sides begin with.
`best_of_n` takes the right responses and the wrong ones, or all of them and the places of the right ones. What it
gives is the chance to pick a right one, where a pick at random is made among those with the highest reward.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reward_distiller.evaluate.benchmarks.pairs import accuracy_of
from reward_distiller.evaluate.benchmarks.protocol import Benchmark, Example, Outcome, Scores
from reward_distiller.evaluate.metrics import Values, grouped, mean
from reward_distiller.rows import Fields


def read_pairs(rows: Sequence[Fields]) -> list[Example]:
    return [_pair(_with_prompt(fields)) for fields in rows]


def _pair(fields: Fields) -> Example:
    responses = (fields.response("chosen"), fields.response("rejected"))
    return Example(_id(fields), fields.prompt(), responses, labels=_labels(fields))


def _with_prompt(fields: Fields) -> Fields:
    """A row without a prompt whose two conversations are the same up to the last turn, with that as its prompt."""
    chosen, rejected = fields.get("chosen"), fields.get("rejected")
    if fields.get("prompt") is not None or not isinstance(chosen, list) or not isinstance(rejected, list):
        return fields
    if not chosen[:-1] or chosen[:-1] != rejected[:-1]:
        raise fields.wrong("prompt", "missing, and chosen and rejected begin differently", "Add it")
    return Fields(fields.where, fields.number, {**fields.row, "prompt": chosen[:-1]}, fields.columns)


def read_lists(rows: Sequence[Fields]) -> list[Example]:
    return [_list(fields) for fields in rows]


def _list(fields: Fields) -> Example:
    right, wrong = _sides(fields)
    return Example(_id(fields), fields.prompt(), (*right, *wrong), right=len(right), labels=_labels(fields))


def _sides(fields: Fields) -> tuple[list[str], list[str]]:
    if fields.get("responses") is None:
        chosen = fields.require("chosen")
        return [chosen] if isinstance(chosen, str) else fields.texts("chosen"), fields.texts("rejected")
    responses, best = fields.texts("responses"), fields.require("best")
    places = best if isinstance(best, list) else [best]
    if not places or not all(type(place) is int and 0 <= place < len(responses) for place in places):
        raise fields.wrong("best", f"{best!r:.60} is no place in {len(responses)} responses", "Count them from 0")
    wrong = [text for place, text in enumerate(responses) if place not in places]
    if not wrong:
        raise fields.wrong("best", "all responses are the best", "Add one that is not")
    return [text for place, text in enumerate(responses) if place in places], wrong


def _id(fields: Fields) -> str:
    name = fields.get("id")
    return str(fields.number if name is None else name)


def _labels(fields: Fields) -> dict[str, str]:
    category = fields.text("category")
    return {} if category is None else {"category": category}


def credit(outcome: Outcome) -> float:
    """Share of right responses among those at the top, which are those that no other is preferred to."""
    right = outcome.example.right
    margin_NN = outcome.margin_NN
    top = [not np.any(margin_NN[:, i] > 0) for i in range(len(margin_NN))]
    return sum(top[:right]) / sum(top) if any(top) else 0.0


def metrics_of_pairs(outcomes: Sequence[Outcome]) -> Scores:
    return _by_category(outcomes, accuracy_of(outcomes))


def metrics_of_lists(outcomes: Sequence[Outcome]) -> Scores:
    return _by_category(outcomes, {o.example.id: credit(o) for o in outcomes})


def _by_category(outcomes: Sequence[Outcome], values: Values) -> Scores:
    if not values:
        return Scores({})
    category_of = {o.example.id: o.example.labels["category"] for o in outcomes if "category" in o.example.labels}
    named = {example: value for example, value in values.items() if example in category_of}
    by_category = {f"category.{name}": metric for name, metric in grouped(named, category_of).items()}
    return Scores({"overall": mean(values), **by_category})


PAIRS = Benchmark(
    name="pairs",
    about="chosen above rejected in your own file; by category where rows have one",
    files=("*.json*", "*.parquet"),
    expects="prompt, chosen and rejected (text or conversations), and maybe category and id",
    read=read_pairs,
    metrics=metrics_of_pairs,
)
BEST_OF_N = Benchmark(
    name="best_of_n",
    about="a right response at the top of a list in your own file; by category where rows have one",
    files=("*.json*", "*.parquet"),
    expects="prompt, chosen (a text or several) and rejected (texts); or prompt, responses and best (places from 0)",
    read=read_lists,
    metrics=metrics_of_lists,
)
