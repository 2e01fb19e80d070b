"""The arms of a comparison: the table, means with their intervals, and how their policies were trained."""

from __future__ import annotations

from reward_distiller.recipes.comparison_curves import training_curves
from reward_distiller.recipes.comparison_figures import panels
from reward_distiller.recipes.comparison_table import arm_rows, notes, pair_rows
from reward_distiller.report.charts import curves, intervals, thinned
from reward_distiller.report.markup import charts, joined, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.sections.training import STEP

UNITS = {  # of the panels of training curves, which name theirs where it is not clear
    "reward": "reward, weighted sum",
    "true quality": "true quality, share",
    "tokens of a response": "length of a response, tokens",
    "gradient norm": "gradient norm, L2",
}


def comparison(run: Run) -> Section | None:
    if run.kind != "compare":
        return None
    results = run.results
    seeds = len(results["seeds"])
    over = f"over {seeds} seeds" if seeds > 1 else "over the test prompts of one seed"
    drawn = [
        intervals(
            f"arms-{at}",
            title,
            f"Mean of each arm with its 95% interval, {over}. The table below has the differences.",
            points,
            f"{title}, percent" if _in_percent(run) else f"{title}, own unit",
            "arm",
        )
        for at, (title, points) in enumerate(panels(results).items())
        if points
    ]
    logs = [
        curves(
            f"arms-training-{at}",
            f"In training: {title}",
            "Means over seeds, each over five neighbouring steps; looks at the policy are shown as they are.",
            {arm: thinned(points) for arm, points in lines.items()},
            STEP,
            UNITS.get(title, title),
        )
        for at, (title, lines) in enumerate(training_curves(results).items())
    ]
    (heads, *rows), pairs = arm_rows(results), pair_rows(results)
    html = joined(
        charts(drawn),
        table("Arms", ["arm", *heads[1:]], rows),
        table("Other differences", ["arms", *pairs[0][1:]], pairs[1:]) if pairs else None,
        *(paragraph(note) for note in notes(results)),
        charts(logs),
    )
    return Section("comparison", "The comparison", html)


def _in_percent(run: Run) -> bool:
    """Arms that are reward models have accuracies; a policy's figures each have a unit of their own."""
    return any("method" in arm for arm in run.results["arms"].values())
