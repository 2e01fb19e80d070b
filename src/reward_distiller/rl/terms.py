"""The terms that a reward is made of: each takes sampled responses and gives one number for each.

From a reward model in this process or behind a URL, a rule (a Python function of the user's), or the response's form.
A term that gives anything but a finite number for each response is an error: no default stands in for it.
Knows no weights and no training.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from reward_distiller.config import Labels, RewardSource, RewardTerm
from reward_distiller.errors import ConfigError, RewardError
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.rewards.client import RewardClient


@dataclass(frozen=True)
class Sample:
    """One response to a prompt. `tokens` counts the end token; `row` is the data's."""

    prompt: tuple[Mapping[str, str], ...]
    response: str
    tokens: int
    finished: bool = True
    row: Mapping[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @property
    def messages(self) -> list[dict[str, str]]:
        return [dict(turn) for turn in self.prompt]


Term = Callable[[Sequence[Sample]], list[float]]


def by_prompt(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Neighbours with the same prompt, in order."""
    return [list(group) for _, group in groupby(samples, key=lambda s: s.prompt)]


def model_term(model: RewardModel) -> Term:
    def score(samples: Sequence[Sample]) -> list[float]:
        rows = [(group[0].messages, [s.response for s in group]) for group in by_prompt(samples)]
        return [value for row in model.score_rows(rows) for value in row]

    return score


def server_term(client: RewardClient) -> Term:
    def score(samples: Sequence[Sample]) -> list[float]:
        rows = [(group[0].messages, [s.response for s in group]) for group in by_prompt(samples)]
        return [value for row in asyncio.run(client.rewards_of_rows(rows)) for value in row]

    return score


def rule_term(spec: str) -> Term:
    """The function that module:name or file.py:name says, called once a prompt: f(messages, responses, row) -> numbers.

    Raises ConfigError where there is none, RewardError for what it raises or gives that is no list of numbers.
    """
    rule = _load(spec)

    def score(samples: Sequence[Sample]) -> list[float]:
        values: list[float] = []
        for group in by_prompt(samples):
            try:
                found = list(rule(group[0].messages, [s.response for s in group], dict(group[0].row)))
            except Exception as error:
                raise RewardError(f"the rule {spec} failed: {type(error).__name__}: {error}. Mend it") from error
            if len(found) != len(group):
                raise RewardError(f"the rule {spec} gave {len(found)} values for {len(group)} responses. Give one each")
            values += found
        return values

    return score


def _load(spec: str) -> Callable[..., Any]:
    where, colon, name = spec.rpartition(":")
    if not (colon and where and name):
        raise ConfigError(f"rule {spec!r}: write module:function or file.py:function")
    try:
        if where.endswith(".py"):
            found = importlib.util.spec_from_file_location(Path(where).stem, where)
            if found is None or found.loader is None:
                raise ImportError(f"{where} is no Python file")
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
        else:
            module = importlib.import_module(where)
        rule = getattr(module, name)
    except Exception as error:
        raise ConfigError(f"rule {spec}: cannot be loaded ({type(error).__name__}: {error}). Mend it") from error
    if not callable(rule):
        raise ConfigError(f"rule {spec}: {name} is no function")
    return rule


def pattern_term(pattern: str) -> Term:
    """1 for a response that a regular expression matches as a whole (dots match line ends), else 0."""
    try:
        compiled = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise ConfigError(f"pattern {pattern!r}: no regular expression ({error})") from error
    return lambda samples: [float(compiled.fullmatch(s.response) is not None) for s in samples]


def overlong_term(buffer: int, limit: int) -> Term:
    """DAPO's soft overlong punishment (Yu et al., 2025, equation 13): 0 up to limit - buffer tokens, then down to -1.

    Raises ConfigError where the buffer is as long as the limit.
    """
    if buffer >= limit:
        raise ConfigError(f"overlong: {buffer} tokens are no part of rollout.max_response_length={limit}. Name fewer")
    return lambda samples: [-min(1.0, max(0.0, (s.tokens - (limit - buffer)) / buffer)) for s in samples]


def length_term(unit: float) -> Term:
    return lambda samples: [-s.tokens / unit for s in samples]


def repetition_term(n: int) -> Term:
    return lambda samples: [-repetition(s.response, n) for s in samples]


def repetition(text: str, n: int = 4) -> float:
    """The share of a text's n-grams of words that stood in it before; 0 where it has fewer than two."""
    words = text.split()
    grams = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if len(grams) > 1 else 0.0


def form_term(term: RewardTerm, limit: int) -> Term | None:
    """The term of the response's form that a config names; None for one that has a source."""
    if term.pattern is not None:
        return pattern_term(term.pattern)
    if term.overlong is not None:
        return overlong_term(term.overlong, limit)
    if term.length is not None:
        return length_term(term.length)
    return None if term.repetition is None else repetition_term(term.repetition)


def truth_term(quality: Callable[[str, str], float]) -> Term:
    """1 for a response whose true quality is 1, else 0; `quality` takes a prompt's last turn and a response."""
    return lambda samples: [float(quality(s.messages[-1]["content"], s.response) >= 1) for s in samples]


@dataclass(frozen=True)
class Opened:
    """What terms need from outside, opened: reward models, who labels responses, and the testbed's truth."""

    model: Callable[[RewardSource], RewardModel]
    labels: Callable[[Labels], Term]
    truth: Callable[[], Term]


def _nothing(*_: Any) -> Any:
    raise AssertionError("a term that needs nothing from outside asks for something")


NOTHING = Opened(_nothing, _nothing, _nothing)


def source_term(source: RewardSource, opened: Opened) -> tuple[Term, RewardModel | None]:
    """The term of one source, and the reward model behind it where it is in this process."""
    if source.function is not None:
        return rule_term(source.function), None
    if source.url is not None:
        return server_term(RewardClient(source.url, source.token_env)), None
    model = opened.model(source)
    return model_term(model), model


def checked(name: str, values: Sequence[Any], count: int) -> list[float]:
    """The values as floats. Raises RewardError for another number of them, and for what is no finite number."""
    if len(values) != count:
        raise RewardError(f"the term {name} gave {len(values)} rewards for {count} responses. Give one each")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise RewardError(f"the term {name} gave {value!r:.60}, and a reward is a finite number. Mend the term")
    return [float(value) for value in values]
