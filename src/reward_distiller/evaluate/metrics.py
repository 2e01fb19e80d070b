"""Figures of a benchmark as sums of weighted means over examples, with intervals over prompts and paired tests.

Every metric here is Σ_k w_k · mean_k, each mean over the examples that have a value for it: an accuracy is one mean, a
section of subsets several. So resampling prompts, and exchanging two scorers, need to know nothing else of a metric.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reward_distiller.evaluate.statistics import RESAMPLES, Figure

Values = Mapping[str, float]  # example id -> value
EXCHANGES = 9999  # random exchanges of two scorers: the smallest p is then 0.0001


@dataclass(frozen=True)
class Metric:
    """Σ weight · mean(values), in the values' own unit (1 is 100 percent)."""

    terms: tuple[tuple[float, Values], ...]

    @property
    def value(self) -> float:
        return sum(weight * float(np.mean(list(values.values()))) for weight, values in self.terms)

    @property
    def examples(self) -> set[str]:
        return {example for _, values in self.terms for example in values}


def mean(values: Values) -> Metric:
    if not values:
        raise ValueError("no values to take a mean of")
    return Metric(((1.0, values),))


def combined(parts: Iterable[tuple[float, Metric]]) -> Metric:
    """Σ weight · metric."""
    return Metric(tuple((weight * w, values) for weight, metric in parts for w, values in metric.terms))


def average(metrics: Sequence[Metric]) -> Metric:
    """The plain mean of metrics, however many examples stand behind each."""
    return combined((1 / len(metrics), metric) for metric in metrics)


def grouped(values: Values, group_of: Mapping[str, str]) -> dict[str, Metric]:
    """The mean of each group, by name in alphabetical order."""
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for example, value in values.items():
        groups[group_of[example]][example] = value
    return {name: mean(groups[name]) for name in sorted(groups)}


def figure(metric: Metric, prompt_of: Mapping[str, str]) -> Figure:
    """The metric in percent with its 95% bootstrap interval over prompts; `n` is their number.

    Prompts are resampled within those that count towards the same means, so no mean is ever empty.
    """
    sums, counts, strata = _by_prompt(metric, prompt_of)
    drawn = [(_draws(len(places), stratum), places) for stratum, places in enumerate(strata)]
    means = sum(d @ sums[places] for d, places in drawn) / sum(d @ counts[places] for d, places in drawn)
    weights = np.array([weight for weight, _ in metric.terms])
    low, high = np.quantile(means @ weights, [0.025, 0.975])
    value, low, high = (round(100 * float(x), 3) for x in (metric.value, low, high))
    return Figure(value, low, high, len(sums))


@dataclass(frozen=True)
class Difference:
    """A figure of a scorer less that of another on the same examples, in percent; p of exchanging them at random."""

    figure: Figure
    p: float


def difference(a: Metric, b: Metric, prompt_of: Mapping[str, str]) -> Difference:
    """a - b with its bootstrap interval, and the p-value of the two-sided randomisation test over prompts.

    Under the null hypothesis the two scorers' answers to a prompt may change places, all of the prompt's together.
    Raises ValueError where the two are not the same means of the same examples.
    """
    terms = []
    for (weight, of_a), (other, of_b) in zip(a.terms, b.terms, strict=True):
        if weight != other or of_a.keys() != of_b.keys():
            raise ValueError("the two figures are of other examples")
        terms.append((weight, {example: value - of_b[example] for example, value in of_a.items()}))
    both = Metric(tuple(terms))
    sums, counts, _ = _by_prompt(both, prompt_of)
    contribution = (sums / counts.sum(0)) @ np.array([weight for weight, _ in terms])
    rng, extreme = np.random.default_rng(0), 0
    for _ in range(EXCHANGES):
        signs = 2 * rng.integers(0, 2, len(contribution)) - 1
        extreme += abs(float(signs @ contribution)) >= abs(float(contribution.sum())) - 1e-12
    return Difference(figure(both, prompt_of), (1 + extreme) / (EXCHANGES + 1))


@lru_cache(maxsize=64)  # a benchmark's metrics are of the same few sets of prompts
def _draws(count: int, stratum: int) -> NDArray[np.float32]:
    """(resamples, count): how often each of the prompts is drawn."""
    rng = np.random.default_rng((count, stratum))
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float32)


def _by_prompt(
    metric: Metric, prompt_of: Mapping[str, str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[NDArray[np.intp]]]:
    """Sums and counts of the values, (prompts, terms), and the prompts that count towards the same terms."""
    prompts = sorted({prompt_of[example] for example in metric.examples})
    place = {prompt: at for at, prompt in enumerate(prompts)}
    sums, counts = np.zeros((len(prompts), len(metric.terms))), np.zeros((len(prompts), len(metric.terms)))
    for term, (_, values) in enumerate(metric.terms):
        for example, value in values.items():
            sums[place[prompt_of[example]], term] += value
            counts[place[prompt_of[example]], term] += 1
    together: dict[tuple[bool, ...], list[int]] = defaultdict(list)
    for at, row in enumerate(counts > 0):
        together[tuple(row.tolist())].append(at)
    return sums, counts, [np.array(places) for places in together.values()]
