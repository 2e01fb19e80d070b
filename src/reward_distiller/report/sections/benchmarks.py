"""The figures of every test with their intervals, by category."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from reward_distiller.evaluate.plots import Point
from reward_distiller.recipes.comparison_table import p_value
from reward_distiller.recipes.evaluation_table import rows_line
from reward_distiller.report.charts import Chart, intervals
from reward_distiller.report.markup import charts, joined, listed, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.text import Figure, name, percent, points

ACCURACY = "accuracy, percent"
MOST = 24  # figures in a chart: beyond, the table is easier to read
TESTBED = "Easy: the right answer is the more ornate one; hard: the wrong one is. Their plain mean is the average."


def benchmarks(run: Run) -> Section | None:
    parts = [part for test, found in (run.evaluation.get("benchmarks") or {}).items() for part in _one(test, found)]
    html = joined(*_testbed(run), *parts, _contamination(run))
    return Section("benchmarks", "Benchmarks", html) if html else None


def _testbed(run: Run) -> list[Markup]:
    figures = run.results.get("testbed") if run.kind == "reward_model" else None
    return _figures("testbed", figures, TESTBED) if figures else []


def _one(test: str, found: dict[str, Any]) -> list[Markup]:
    notes = [rows_line(found["rows"]), *(f"{note}." for note in found["notes"])]
    return [*_figures(test, found["metrics"], "", found.get("difference", {})), listed(notes)]


def _figures(test: str, figures: dict[str, Any], note: str, compared: dict[str, Any] | None = None) -> list[Markup]:
    heads = ["figure", "percent (95% interval)", "prompts", *(["points to the other", "p"] if compared else [])]
    rows = [
        [name(n), percent(f), f"{f['n']:,}", *(_change(compared.get(n)) if compared else [])]
        for n, f in figures.items()
    ]
    drawn = [chart_of(f"benchmark-{test}", f"{name(test)}, by category", figures, note)] if figures else []
    return [charts(drawn), table(f"{name(test)}: figures", heads, rows)]


def _change(change: Figure | None) -> list[str]:
    return [points(change), p_value(change["p"])] if change else ["–", "–"]


def chart_of(at: str, title: str, figures: dict[str, Any], note: str) -> Chart:
    """Of the first figures, as many as can be read."""
    shown: dict[str, Point] = {
        name(n): (f["value"], f["low"], f["high"]) for n, f in list(figures.items())[:MOST] if f["value"] is not None
    }
    cut = f" The first {MOST}; the table has all." if len(figures) > MOST else ""
    return intervals(at, title, f"With 95% intervals over prompts. {note}{cut}".strip(), shown, ACCURACY, "figure")


def _contamination(run: Run) -> Markup | None:
    found = run.evaluation.get("contamination")
    if not found:
        return None
    if not found["checked"]:
        return paragraph(f"Contamination was not checked: {found['why']}.")
    counts = ("exact", "near", "benchmark")
    rows = [[name(n), *(f"{own[each]:,}" for each in counts)] for n, own in found["benchmarks"].items()]
    return table(
        f"Training prompts ({found['training_prompts']:,}) that the benchmarks ask as well",
        ["benchmark", "equal", "nearly equal", "of so many prompts"],
        rows,
    )
