"""The reward of a response: the weighted sum of terms, each centred and scaled as the config says.

A mean or a standard deviation is the reward model's own, over its training rewards, or that of the batch or of the
prompt's group, over what was just sampled. So nothing runs along from step to step, and a resumed training sees the
same rewards. An ensemble's bandit is the one thing with a memory; `state` keeps it. Knows no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reward_distiller.config import TOTAL, Ensemble, RewardTerm
from reward_distiller.errors import ConfigError
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.rl.bandit import LinUCB
from reward_distiller.rl.terms import Opened, Sample, Term, checked, form_term, source_term

Values = NDArray[np.float64]
LEAST_SPREAD = 1e-8  # below it all rewards of a batch or a group are the same, and none is scaled
History = dict[str, list[tuple[list[float], int, float]]]


@dataclass(frozen=True)
class Scored:
    """Rewards of samples, in order: their sum, and each term as it was, before centring, scaling and weighing."""

    total: list[float]
    terms: dict[str, list[float]]

    def of(self, name: str) -> list[float]:
        return self.total if name == TOTAL else self.terms[name]


@dataclass(frozen=True)
class PolicyView:
    """What a bandit is told of the policy at the samples: their context, and ln P of each response, per token."""

    context: Callable[[], Sequence[float]]
    log_p_per_token: Callable[[], Sequence[float]]


@dataclass
class Part:
    """A term with its place in the sum; `model` where its reward model is in this process."""

    term: Term
    settings: RewardTerm
    model: RewardModel | None = None
    bandit: LinUCB | None = None
    members: dict[str, Term] = field(default_factory=dict)

    @property
    def reads_consensus(self) -> bool:
        return self.settings.labels is not None and not self.settings.labels.judges_all

    def raw(self, samples: Sequence[Sample], view: PolicyView | None) -> list[float]:
        ensemble = self.settings.ensemble
        if ensemble is None:
            return self.term(samples)
        if self.bandit is not None and view is not None:
            return self._chosen(samples, self.bandit, view)
        each = np.array([checked(name, term(samples), len(samples)) for name, term in self.members.items()])
        return (each.min(0) if ensemble.choose == "minimum" else each.mean(0)).tolist()

    def _chosen(self, samples: Sequence[Sample], bandit: LinUCB, view: PolicyView) -> list[float]:
        context = list(view.context())
        arm = bandit.choose(context)
        values = list(self.members.values())[arm](samples)
        liked = [at for at, better in enumerate(_above_their_mean(values, samples)) if better]
        log_p = view.log_p_per_token()
        if liked:
            bandit.learn(context, arm, -float(np.mean([log_p[at] for at in liked])))
        return values


class Reward:
    """Called with samples, those of one prompt side by side. Raises RewardError for what is no finite number.

    Without a `view` nobody is training: a bandit then chooses nothing, and the mean of its members is taken.
    """

    def __init__(self, parts: dict[str, Part]):
        self.parts = parts

    def __call__(self, samples: Sequence[Sample], view: PolicyView | None = None) -> Scored:
        terms = {name: checked(name, part.raw(samples, view), len(samples)) for name, part in self.parts.items()}
        total = np.zeros(len(samples))
        for name, part in self.parts.items():
            total += part.settings.weight * _normalized(np.array(terms[name]), part, samples)
        return Scored(total.tolist(), terms)

    def of_any_prompt(self) -> Reward | None:
        """Without the terms that read what only the rows of training prompts hold; None where nothing is left."""
        left = {name: part for name, part in self.parts.items() if not part.reads_consensus}
        return Reward(left) if left else None

    @property
    def state(self) -> History:
        """The histories of bandits, as JSON takes them."""
        return {
            name: [(list(context), arm, loss) for context, arm, loss in part.bandit.history]
            for name, part in self.parts.items()
            if part.bandit is not None
        }

    def restore(self, state: History) -> None:
        for name, history in state.items():
            part = self.parts[name]
            assert part.bandit is not None
            past = [(np.asarray(context, dtype=float), arm, loss) for context, arm, loss in history]
            part.bandit = LinUCB(part.bandit.arms, part.bandit.exploration, past)


def build_reward(terms: dict[str, RewardTerm], limit: int, opened: Opened) -> Reward:
    """The reward of a config. `limit` is the longest response in tokens; `opened` is what terms need beside.

    Raises ConfigError for what a term names and is not there.
    """
    return Reward({name: _part(term, limit, opened) for name, term in terms.items()})


def _part(settings: RewardTerm, limit: int, opened: Opened) -> Part:
    form = form_term(settings, limit)
    if form is not None:
        return Part(form, settings)
    if settings.labels is not None:
        return Part(opened.labels(settings.labels), settings)
    if settings.truth:
        return Part(opened.truth(), settings)
    if settings.ensemble is not None:
        return _ensemble(settings, settings.ensemble, opened)
    term, model = source_term(settings, opened)
    return Part(term, settings, model)


def _ensemble(settings: RewardTerm, ensemble: Ensemble, opened: Opened) -> Part:
    members = {name: source_term(source, opened)[0] for name, source in ensemble.members.items()}
    bandit = LinUCB(len(members), ensemble.exploration) if ensemble.choose == "bandit" else None
    return Part(next(iter(members.values())), settings, bandit=bandit, members=members)


def _normalized(values: Values, part: Part, samples: Sequence[Sample]) -> Values:
    center, scale = part.settings.center, part.settings.scale
    centered = values - _spread_over(values, center, part, samples, np.mean)
    if scale == "none":
        return centered
    spread = _spread_over(values, scale, part, samples, np.std)
    return np.where(spread > LEAST_SPREAD, centered / np.maximum(spread, LEAST_SPREAD), centered)


def _spread_over(
    values: Values, over: str, part: Part, samples: Sequence[Sample], statistic: Callable[[Values], float]
) -> Values:
    """A mean or a standard deviation for each value."""
    if over == "recorded":
        recorded = None if part.model is None else part.model.mean if statistic is np.mean else part.model.std
        if recorded is None:
            raise ConfigError("center and scale: recorded need a reward model whose config.json holds its mean and std")
        return np.full(len(values), recorded)
    if over == "batch":
        return np.full(len(values), statistic(values))
    found = np.zeros(len(values))
    if over == "group":
        for group in _groups(samples):
            found[group] = statistic(values[group])
    return found


def _groups(samples: Sequence[Sample]) -> list[list[int]]:
    """The places of each prompt's samples."""
    places: dict[tuple, list[int]] = {}
    for at, sample in enumerate(samples):
        places.setdefault(tuple(tuple(turn.items()) for turn in sample.prompt), []).append(at)
    return list(places.values())


def _above_their_mean(values: Sequence[float], samples: Sequence[Sample]) -> list[bool]:
    """Whether each value is above the mean of its prompt's values; of all where a prompt has one response."""
    value, groups = np.array(values), _groups(samples)
    if len(groups) == len(samples):
        groups = [list(range(len(samples)))]
    above = np.zeros(len(value), dtype=bool)
    for group in groups:
        above[group] = value[group] > value[group].mean()
    return above.tolist()
