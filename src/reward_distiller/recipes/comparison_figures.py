"""The figures of a comparison: those of each run, their means over seeds, and differences to the first arm.

A metric is `group.name`, or `group.name.part` where it is a part of another: any value in a run's results.json of the
form {group: {name: {"value": ...}}}. Knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.plots import Point
from reward_distiller.evaluate.statistics import Interval, holm, mean_interval, paired_difference

DECIMALS = 4
Arms = dict[str, Any]  # name -> changes, method, teacher, runs by seed; then also summary and difference


def run_entry(results: dict[str, Any]) -> dict[str, Any]:
    """What a comparison keeps of a run's results.json; anything may be missing there."""
    training = results.get("training") or {}
    figures = {
        f"{group}.{name}": figure
        for group, named in results.items()
        if isinstance(named, dict)
        for name, figure in named.items()
        if isinstance(figure, dict) and "value" in figure
    }
    return {
        "figures": figures,
        "too_long": (results.get("held_out") or {}).get("too_long"),
        "held_out_pairs": (results.get("held_out") or {}).get("pairs"),
        "pairs": training.get("pairs"),
        "pairs_by_source": training.get("pairs_by_source") or {},
        "cost": results.get("cost") or [],
    }


def metrics(arms: Arms) -> list[str]:
    """All metrics that some run has, in the order of the results."""
    return list(dict.fromkeys(m for arm in arms.values() for run in arm["runs"].values() for m in run["figures"]))


def shown_metrics(arms: Arms, wanted: Sequence[str] | None) -> list[str]:
    """The table's columns: as wanted, or accuracy on held-out pairs and all but the parts of each test's figures.

    Raises ConfigError.
    """
    there = metrics(arms)
    if wanted is not None:
        for metric in wanted:
            _check_there("columns", metric, there)
        return list(wanted)
    return [m for m in there if m == "held_out.accuracy" or (not m.startswith("held_out.") and m.count(".") == 1)]


def compared_metric(arms: Arms, wanted: str | None) -> str | None:
    """What arms are compared on; None where no run has a figure. Raises ConfigError."""
    there = metrics(arms)
    if wanted is not None:
        _check_there("compare_on", wanted, there)
        return wanted
    return next((m for m in ("testbed.average", "held_out.accuracy", *there) if m in there), None)


def _check_there(key: str, metric: str, there: Sequence[str]) -> None:
    if metric not in there:
        raise ConfigError(f"{key}: no run has the figure {metric!r}. There are: {', '.join(there) or 'none'}")


def with_summaries(arms: Arms) -> Arms:
    """The arms with their means over seeds and, for all but the first, their differences to the first."""
    of_first = next(iter(arms.values()))
    for arm in arms.values():
        arm["summary"] = {m: _summary(_values(arm, m), arm, m) for m in metrics({"": arm})}
        arm["difference"] = {} if arm is of_first else _differences(arm, of_first)
    for metric in metrics(arms):
        _correct([d for arm in arms.values() if (d := arm["difference"].get(metric))])
    return arms


def with_pairs(arms: Arms, pairs: dict[str, str]) -> list[dict[str, Any]]:
    """The differences of arms to others than the first, p-values corrected over the pairs for each metric."""
    found: list[dict[str, Any]] = [
        {"arm": name, "against": other, "difference": _differences(arms[name], arms[other])}
        for name, other in pairs.items()
    ]
    for metric in metrics(arms):
        _correct([d for pair in found if (d := pair["difference"].get(metric))])
    return found


def _correct(differences: Sequence[dict[str, Any]]) -> None:
    """Add Holm's p to those that were tested."""
    tested = [d for d in differences if d["p"] is not None]
    for difference, p in zip(tested, holm([d["p"] for d in tested]), strict=True):
        difference["p_holm"] = p


def _values(arm: Any, metric: str) -> dict[str, float]:
    """By seed; a run may lack what others have."""
    return {seed: run["figures"][metric]["value"] for seed, run in arm["runs"].items() if metric in run["figures"]}


def _summary(values: dict[str, float], arm: Any, metric: str) -> dict[str, Any]:
    """Over seeds; with one seed, the run's own figure and interval."""
    if len(values) > 1:
        return _bounds(mean_interval(list(values.values()))) | {"n_seeds": len(values)}
    (seed,) = values
    figure = arm["runs"][seed]["figures"][metric]
    return {"mean": figure["value"], "low": figure.get("low"), "high": figure.get("high"), "n_seeds": 1}


def _differences(arm: Any, of_first: Any) -> dict[str, Any]:
    """Metric -> mean over the seeds that both have, with what can be said of it from so many."""
    found: dict[str, Any] = {}
    for metric in metrics({"": arm}):
        own, first = _values(arm, metric), _values(of_first, metric)
        both = [seed for seed in own if seed in first and _same_test(metric, arm["runs"][seed], of_first["runs"][seed])]
        if len(both) > 1:
            difference = paired_difference([own[s] for s in both], [first[s] for s in both])
            found[metric] = _bounds(difference) | {"p": difference.p, "p_holm": None}
        elif both:
            mean = round(own[both[0]] - first[both[0]], DECIMALS)
            found[metric] = {"mean": mean, "low": None, "high": None, "p": None, "p_holm": None}
    return found


def _same_test(metric: str, run: Any, other: Any) -> bool:
    """Held-out pairs come from what a run has constructed; figures on other pairs are no figures to subtract."""
    return not metric.startswith("held_out.") or run["held_out_pairs"] == other["held_out_pairs"]


def _bounds(interval: Interval) -> dict[str, Any]:
    return {name: round(getattr(interval, name), DECIMALS) for name in ("mean", "low", "high")}


def panels(results: dict[str, Any]) -> dict[str, dict[str, Point]]:
    """What is drawn: the compared metric first, then those of the same group that are shown; title -> arm -> point."""
    compared = results["compare_on"]
    if compared is None:
        return {}
    group = compared.partition(".")[0]
    shown = [compared, *(m for m in results["columns"] if m != compared and m.partition(".")[0] == group)]
    return {
        title(metric): {
            name: (s["mean"], s["low"], s["high"])
            for name, arm in results["arms"].items()
            if (s := arm["summary"].get(metric))
        }
        for metric in shown
    }


def title(metric: str) -> str:
    """A metric's name for people."""
    group, _, name = metric.partition(".")
    if metric == "held_out.accuracy":
        return "held-out pairs"
    return (name if group == "testbed" else f"{group} {name}").replace("_", " ")
