"""The pseudo-rewards of a run that labels responses: how they are spread."""

from __future__ import annotations

from reward_distiller.report.charts import histogram
from reward_distiller.report.markup import charts
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section


def labels(run: Run) -> Section | None:
    if run.kind != "pseudo_rewards" or not run.responses:
        return None
    groups: dict[str, list[float]] = {}
    for row in run.responses:
        groups.setdefault(f"responses of the {row['sampler']}", []).append(row["reward"])
    caption = f"Of {len(run.responses):,} responses. Votes give 0 or 1, a judge what lies between."
    chart = histogram("pseudo-rewards", "Pseudo-rewards", caption, groups, "pseudo-reward, from 0 to 1", "responses")
    return Section("labels", "The labels", charts([chart]))
