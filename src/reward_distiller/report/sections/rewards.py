"""What the reward model learned: rewards of chosen and rejected responses, and its margins beside the teacher's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import mean, quantiles
from typing import Any

from reward_distiller.recipes.evaluation_table import interval
from reward_distiller.report.charts import Chart, curves, histogram
from reward_distiller.report.markup import charts, joined, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.text import name

REWARD = "reward, logits"
FEW = 5  # pairs below which a mean of a margin says nothing
SPLITS = {
    "held_out": ("held-out pairs", "Prompts that the model was never trained on."),
    "validation": ("validation pairs", "They chose the best weights, so they look a little better than they should."),
    "training": ("training pairs", "The model has seen them: they show what it learned, not how good it is."),
}
NOTES = {
    "spearman": "rank correlation of the two margins, both orders of every pair counted",
    "pearson": "correlation of the two margins, likewise",
    "slope": "units of reward for a point of the teacher's margin",
    "same_sign": "share of pairs in which both prefer the same response",
    "strength_spearman": "along the teacher's order: does the margin rise with the strength of the preference?",
    "calibration_error": "mean gap between σ(|margin|) and how often the teacher agrees; 0 is best",
}


def rewards(run: Run) -> Section | None:
    calibrated = _calibrated(run)
    drawn = [*_spread(run), *_by_teacher(run), *(reliability(test, c["reliability"]) for test, c in calibrated.items())]
    html = joined(charts(drawn), *_figures(calibrated))
    return Section("rewards", "What the reward model learned", html) if html else None


def _spread(run: Run) -> list[Chart]:
    drawn = []
    for split, (title, caution) in SPLITS.items():
        own = [row for row in run.rewards.values() if row.split == split]
        if not own:
            continue
        sides = {"chosen": [row.chosen for row in own], "rejected": [row.rejected for row in own]}
        right = 100 * mean(row.chosen > row.rejected for row in own)
        caption = f"{len(own):,} pairs, refined ones among them, {right:.1f} percent in the right order. {caution}"
        drawn.append(histogram(f"rewards-{split}", f"Rewards, {title}", caption, sides, REWARD, "responses"))
    return drawn


def _by_teacher(run: Run) -> list[Chart]:
    """The model's mean margin for each margin that the teacher gave, with its middle half."""
    lines, bands = {}, {}
    for split, (title, _) in SPLITS.items():
        by_margin: dict[float, list[float]] = defaultdict(list)
        for pair in run.pairs:
            row = run.rewards.get(pair.id)
            if row is not None and row.split == split and pair.margin is not None:
                by_margin[round(pair.margin)].append(row.chosen - row.rejected)
        told = {at: values for at, values in sorted(by_margin.items()) if len(values) >= FEW}
        if len(told) > 1:
            lines[title] = [(float(at), mean(values)) for at, values in told.items()]
            bands[title] = [(float(at), *_middle_half(values)) for at, values in told.items()]
    if not lines:
        return []
    caption = (
        "The model's mean margin for pairs of the same margin by the teacher, rounded to a point; the band holds the "
        "middle half of the pairs. A line that rises says that the model learned strength, not only order."
    )
    y = "reward margin, logits"
    x = "teacher's margin, points"
    return [curves("by-teacher", "Margin by the teacher's margin", caption, lines, x, y, bands=bands, marked=True)]


def _middle_half(values: list[float]) -> tuple[float, float]:
    low, _, high = quantiles(values, n=4)
    return low, high


def _calibrated(run: Run) -> dict[str, Any]:
    found = {**(run.results.get("calibration") or {}), **(run.evaluation.get("calibration") or {})}
    return {test: calibrated for test, calibrated in found.items() if calibrated.get("figures")}


def _figures(calibrated: Mapping[str, Any]) -> list[Any]:
    parts = []
    for test, found in calibrated.items():
        rows = [[name(n), NOTES.get(n, ""), interval(figure)] for n, figure in found["figures"].items()]
        heads = ["figure", "what it says", "value (95% interval)"]
        parts.append(table(f"Calibration to the teacher: {name(test)}", heads, rows, texts=2))
        parts.append(paragraph(f"{found['pairs']:,} pairs, {found['ties']:,} of them ties; in {found['unit']}."))
    return parts


def reliability(test: str, bins: list[Mapping[str, float]]) -> Chart:
    points = [(100 * each["confidence"], 100 * each["frequency"]) for each in bins]
    caption = (
        f"{sum(each['pairs'] for each in bins):,} pairs in ten bins of how sure the model is. On the dashed line it is "
        "as often right, by the teacher, as it is sure; below it, too sure. Rewards regressed onto a teacher's scale "
        "need not lie on it."
    )
    return curves(
        f"reliability-{test}",
        f"Calibration of the margin: {name(test)}",
        caption,
        {"bins of pairs": points},
        "surety σ(|margin|), percent",
        "the teacher agrees, percent",
        diagonal=True,
        marked=True,
    )
