"""The bias audit: what of a response's style moves its reward, and which empty edits turn an order around."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from reward_distiller.evaluate.plots import Point
from reward_distiller.recipes.evaluation_table import interval
from reward_distiller.report.charts import Chart, intervals, scatter
from reward_distiller.report.markup import charts, joined, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.sections.benchmarks import chart_of
from reward_distiller.report.text import name

HELD_FIXED = {
    "testbed": "The truth is known here: `label` is which response is right, and the others hold it fixed.",
    "held_out": "`label` is the teacher's verdict, which may share the bias: the testbed or a benchmark knows better.",
}
READS = "`label` is which response is right by the benchmark, and the others hold it fixed."
BIAS_BENCHMARK = "evalbiasbench"


def bias(run: Run) -> Section | None:
    audits = {**(run.results.get("bias_audit") or {}), **(run.evaluation.get("bias_audit") or {})}
    parts = [part for test, audit in audits.items() for part in _one(test, audit)]
    html = joined(charts(_length(run)), *parts, _categories(run))
    return Section("bias", "Bias audit", html) if html else None


def _one(test: str, audit: dict[str, Any]) -> list[Markup]:
    style, edits = audit["style"], audit.get("edits") or []
    rows = [[name(n), interval(v), f"{v['differing']:,}"] for n, v in style.items()]
    parts = [
        charts([*_partials(test, style), *_flips(test, edits)]),
        table(
            f"{name(test)}: partial correlation with the reward margin, the others held fixed",
            ["style", "partial correlation (95% interval)", "pairs that differ"],
            rows,
        ),
        paragraph(HELD_FIXED.get(test, READS).replace("`label`", "“label”")),
    ]
    return [*parts, _edits(test, edits)]


def _partials(test: str, style: dict[str, Any]) -> list[Chart]:
    shown: dict[str, Point] = {
        name(n): (v["value"], v["low"], v["high"]) for n, v in style.items() if v["value"] is not None
    }
    if not shown:
        return []
    caption = (
        "Right of 0, more of it comes with a higher reward though nothing else differs. Only “label” should be far "
        "from 0. Position is audited by edits, where an evaluation made them."
    )
    x = "partial correlation, from −1 to 1"
    return [intervals(f"bias-{test}", f"What moves the reward: {name(test)}", caption, shown, x, "style", zero=True)]


def _flips(test: str, edits: list[dict[str, Any]]) -> list[Chart]:
    shown: dict[str, Point] = {
        f"{name(e['edit'])} ({e['side']})": tuple(100 * e["flips"][at] for at in ("value", "low", "high"))
        for e in edits
        if e["flips"] and e["flips"]["value"] is not None
    }
    if not shown:
        return []
    caption = "How often the order of a pair turns around when one response is edited without saying anything new."
    title = f"Edits that turn orders around: {name(test)}"
    return [intervals(f"flips-{test}", title, caption, shown, "orders that flip, percent", "edit")]


def _edits(test: str, edits: list[dict[str, Any]]) -> Markup:
    rows = [
        [name(e["edit"]), e["side"], *(interval(e[figure]) for figure in ("flips", "shift")), f"{e['pairs']:,}"]
        for e in edits
    ]
    heads = ["edit", "of the response that is", "share of orders that flip", "shift of its reward, sd", "pairs"]
    return table(f"{name(test)}: edits that say nothing new", heads, rows, texts=2)


def _length(run: Run) -> list[Chart]:
    """Of the responses in held-out pairs; where none are held out, of those that the model was trained on."""
    splits = {row.split for row in run.rewards.values()}
    split = "held_out" if "held_out" in splits else "training"
    dots = [
        (float(len(text)), reward)
        for pair in run.pairs
        if (row := run.rewards.get(pair.id)) is not None and row.split == split
        for text, reward in ((pair.chosen, row.chosen), (pair.rejected, row.rejected))
    ]
    if not dots:
        return []
    caption = (
        f"Responses in {name(split).replace('held out', 'held-out')} pairs. Better responses may well be longer: what "
        "length alone does is the partial correlation below."
    )
    return [scatter("reward-length", "Reward against length", caption, dots, "length, characters", "reward, logits")]


def _categories(run: Run) -> Markup | None:
    figures = (run.evaluation.get("benchmarks") or {}).get(BIAS_BENCHMARK, {}).get("metrics")
    if not figures:
        return None
    note = "Each category is a bias that judges are known for; below 50 the model shares it."
    return charts([chart_of("bias-categories", "EvalBiasBench, by bias", figures, note)])
