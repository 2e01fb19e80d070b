"""Human ratings: several raters' scores from 1 to 5 of systems' responses (paper, table 13), and how far raters agree.

A response's score is the mean of its raters', a system's the mean of its responses', with a 95% interval over
responses. Agreement is Krippendorff's alpha (Computing Krippendorff's Alpha-Reliability, 2011), which takes missing
scores as they are, and the mean Spearman correlation of two raters on what both scored. Knows neither prompts nor
responses, only ids.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reward_distiller.errors import DataError
from reward_distiller.evaluate.resampling import Estimate, Places, bootstrap, correlation, levels, ranks
from reward_distiller.evaluate.statistics import RESAMPLES
from reward_distiller.files import read_rows
from reward_distiller.rows import Fields

Scale = Literal["nominal", "ordinal", "interval"]
LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Rated:
    """A response with its scores by rater; `prompt` pairs the responses of several systems."""

    id: str
    system: str
    prompt: str | None
    scores: Mapping[str, int]


@dataclass(frozen=True)
class Agreement:
    """Over the responses that two raters or more scored; NaN where all scores are equal, or none are shared."""

    alpha_ordinal: Estimate
    alpha_interval: Estimate
    spearman: Estimate


@dataclass(frozen=True)
class Difference:
    """The first system's mean less the second's over the prompts that both answered, paired by prompt."""

    systems: tuple[str, str]
    estimate: Estimate


@dataclass(frozen=True)
class Ratings:
    """Systems in the order in which they first stand in the rows. `difference` is None where it cannot be paired."""

    systems: dict[str, Estimate]
    difference: Difference | None
    agreement: Agreement | None
    raters: tuple[str, ...]
    scores: int


def load(path: str | Path) -> list[Rated]:
    """Raises DataError that names row and field for what is no rating."""
    return read([Fields(str(path), number, row, {}) for number, row in read_rows(path)])


def read(rows: Sequence[Fields]) -> list[Rated]:
    """Long rows (response, system, rater, score) or wide ones (id, system, scores by rater), with prompt or without.

    A wide score of null is missing. Raises DataError for a score that is no whole number from 1 to 5, for a response
    that a rater scored twice, and for one with two systems or prompts.
    """
    known: dict[str, tuple[str, str | None, dict[str, int]]] = {}
    for fields in rows:
        wide = fields.get("scores") is not None
        name = _id(fields, "id" if wide else "response")
        system, prompt = _id(fields, "system"), _id(fields, "prompt") if fields.get("prompt") is not None else None
        first = known.setdefault(name, (system, prompt, {}))
        for field, value, before in (("system", system, first[0]), ("prompt", prompt, first[1])):
            if value != before:
                raise fields.wrong(field, f"{value!r} here, {before!r} before, for {name!r}", "Give each response one")
        for field, rater, score in _scores(fields) if wide else [("score", _id(fields, "rater"), fields.get("score"))]:
            if rater in first[2]:
                raise fields.wrong(field, f"{rater!r} scored {name!r} before", "Keep one of the two scores")
            first[2][rater] = _score(fields, field, score)
    return [Rated(name, *rest) for name, rest in known.items() if rest[2]]


def summarize(rated: Sequence[Rated], *, resamples: int = RESAMPLES) -> Ratings:
    """Raises ValueError where nothing is rated."""
    by_system: dict[str, list[Rated]] = defaultdict(list)
    for each in rated:
        by_system[each.system].append(each)
    if not by_system:
        raise ValueError("no response has a rating")
    raters = tuple(sorted({rater for each in rated for rater in each.scores}))
    systems = {
        system: _mean([_own(each) for each in those], [each.id for each in those], resamples)
        for system, those in by_system.items()
    }
    return Ratings(
        systems=systems,
        difference=_difference(by_system, resamples),
        agreement=_agreement(rated, raters, resamples) if len(raters) > 1 else None,
        raters=raters,
        scores=sum(len(each.scores) for each in rated),
    )


def krippendorff_alpha(scores_UR: NDArray[np.float64], scale: Scale) -> float:
    """Of units by raters, NaN where one did not rate: 1 is perfect, 0 is chance. NaN where it is not defined."""
    return _alpha(*_coincidences(scores_UR), scale)


def _coincidences(scores_UR: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coincidences of values by unit (U, V, V), and the values: each ordered pair of two raters' scores counts
    1 / (raters of the unit - 1). A unit with one rater has no pair."""
    values_V = np.unique(scores_UR[~np.isnan(scores_UR)])
    counts_UV = (scores_UR[:, :, None] == values_V).sum(1).astype(float)
    pairs_UVV = counts_UV[:, :, None] * counts_UV[:, None, :] - counts_UV[:, :, None] * np.eye(len(values_V))
    return pairs_UVV / np.maximum(counts_UV.sum(1) - 1, 1)[:, None, None], values_V


def _alpha(by_unit_UVV: NDArray[np.float64], values_V: NDArray[np.float64], scale: Scale) -> float:
    """1 - D_observed / D_expected."""
    observed_VV = by_unit_UVV.sum(0)
    total_V = observed_VV.sum(1)
    n = total_V.sum()
    apart_VV = _distance(total_V, values_V, scale) ** 2
    expected = float(total_V @ apart_VV @ total_V)
    return 1 - (n - 1) * float((observed_VV * apart_VV).sum()) / expected if expected > 0 else math.nan


def _distance(total_V: NDArray[np.float64], values_V: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    if scale == "nominal":
        return 1 - np.eye(len(values_V))
    place_V = values_V if scale == "interval" else np.cumsum(total_V) - total_V / 2  # ordinal: how many lie between
    return place_V[:, None] - place_V[None, :]


def _agreement(rated: Sequence[Rated], raters: Sequence[str], resamples: int) -> Agreement | None:
    shared = [each for each in rated if len(each.scores) > 1]
    if not shared:
        return None
    scores_UR = np.array([[each.scores.get(rater, math.nan) for rater in raters] for each in shared], dtype=float)
    by_unit_UVV, values_V = _coincidences(scores_UR)
    level_UR = levels(np.nan_to_num(scores_UR).ravel()).reshape(scores_UR.shape)
    there_UR = ~np.isnan(scores_UR)

    def figures(at: Places) -> dict[str, float]:
        level, there, found = level_UR[at], there_UR[at], []
        for i, j in combinations(range(len(raters)), 2):
            both = there[:, i] & there[:, j]
            if both.any():
                found.append(correlation(ranks(level[both, i]), ranks(level[both, j])))
        defined = [r for r in found if not math.isnan(r)]
        return {
            "alpha_ordinal": _alpha(by_unit_UVV[at], values_V, "ordinal"),
            "alpha_interval": _alpha(by_unit_UVV[at], values_V, "interval"),
            "spearman": sum(defined) / len(defined) if defined else math.nan,
        }

    return Agreement(**bootstrap(figures, [each.id for each in shared], resamples=resamples))


def _difference(by_system: Mapping[str, Sequence[Rated]], resamples: int) -> Difference | None:
    if len(by_system) < 2:
        return None
    a, b = list(by_system)[:2]
    means = []
    for system in (a, b):
        scores: dict[str, list[float]] = defaultdict(list)
        for each in by_system[system]:
            if each.prompt is not None:
                scores[each.prompt].append(_own(each))
        means.append({prompt: float(np.mean(values)) for prompt, values in scores.items()})
    prompts = sorted(means[0].keys() & means[1].keys())
    if not prompts:
        return None
    return Difference((a, b), _mean([means[0][p] - means[1][p] for p in prompts], prompts, resamples))


def _mean(values: Sequence[float], units: Sequence[str], resamples: int) -> Estimate:
    value_N = np.array(values)
    return bootstrap(lambda at: {"mean": float(value_N[at].mean())}, units, resamples=resamples)["mean"]


def _own(each: Rated) -> float:
    return float(np.mean(list(each.scores.values())))


def _scores(fields: Fields) -> list[tuple[str, str, Any]]:
    value = fields.get("scores")
    if not isinstance(value, dict):
        raise fields.wrong("scores", f"{value!r:.40} is not an object of scores", "Write {rater: score}")
    return [(f"scores.{rater}", str(rater), score) for rater, score in value.items() if score is not None]


def _score(fields: Fields, name: str, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # Parquet and pandas write whole numbers with gaps so
    if isinstance(value, bool) or not isinstance(value, int) or not LOWEST <= value <= HIGHEST:
        raise _wrong_score(fields, name, value)
    return value


def _wrong_score(fields: Fields, name: str, value: Any) -> DataError:
    problem = "missing" if value is None else f"{value!r:.40} is not a score"
    return fields.wrong(name, problem, f"Write a whole number from {LOWEST} to {HIGHEST}")


def _id(fields: Fields, name: str) -> str:
    value = fields.require(name)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise fields.wrong(name, f"{value!r:.40} is not a name", "Write text or a whole number")
    return str(value)
