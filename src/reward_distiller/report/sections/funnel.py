"""From prompts to pairs: what became of every record in every step, and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reward_distiller.balance import FATES
from reward_distiller.report.charts import stacked
from reward_distiller.report.markup import charts, joined, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.text import count


def funnel(run: Run) -> Section | None:
    steps = [step for step in run.balances if step["in"]]
    if not steps:
        return None
    shares = {step["step"]: {fate: 100 * step[fate] / step["in"] for fate in _seen(steps)} for step in steps}
    chart = stacked(
        "funnel",
        "Kept and lost in every step",
        "Every record that came into a step, in percent. Quarantined are those whose answers nobody could read; failed "
        "are those that no answer came for.",
        shares,
        "records, percent of what came in",
        "step",
    )
    heads = ["step", "what", "reasons of those that were not kept", "in", "kept", "not kept"]
    rows = [
        [s["step"], s["unit"], _reasons(s), count(s["in"]), count(s["kept"]), count(s["in"] - s["kept"])] for s in steps
    ]
    html = joined(
        paragraph(_ends(run, steps)), charts([chart]), table("Steps with drops and reasons", heads, rows, texts=3)
    )
    title = "From prompts to pairs" if run.pairs else "What became of the records"
    return Section("funnel", title, html)


def _seen(steps: list[dict[str, Any]]) -> list[str]:
    return [fate for fate in FATES if any(step[fate] for step in steps)]


def _reasons(step: dict[str, Any]) -> str:
    lost = [f"{n:,} {why}" for reasons in step["reasons"].values() for why, n in reasons.items()]
    return "; ".join([*lost, *(f"{n:,} {note}" for note, n in step.get("notes", {}).items())]) or "–"


def _ends(run: Run, steps: list[dict[str, Any]]) -> str:
    start = f"{steps[0]['in']:,} {steps[0]['unit']} came in at “{steps[0]['step']}”"
    sources = Counter(pair.source for pair in run.pairs)
    if not sources:
        return f"{start}; {steps[-1]['kept']:,} {steps[-1]['unit']} were left at “{steps[-1]['step']}”."
    made = ", ".join(f"{n:,} {source}" for source, n in sorted(sources.items()))
    return f"{start}; {sum(sources.values()):,} pairs came out: {made}."
