"""What the teacher did: its scores before and after refinement, how far it edited, and how steady it is."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup
from rapidfuzz.distance import Levenshtein

from reward_distiller.evaluate.statistics import percent as share_of
from reward_distiller.report.charts import Chart, histogram, scatter
from reward_distiller.report.markup import charts, joined, paragraph, table
from reward_distiller.report.run import PairRow, Run
from reward_distiller.report.section import Section
from reward_distiller.report.text import percent

SCALE = "teacher's score, points"
MARGIN = "teacher's margin, points"
MEASURED = 4000  # refined pairs whose edit distance is taken: of 20,000 it would take longer than the rest of the page
BOTH, FLIPPED = "asked in both orders", "of these with another verdict in the other order"


def teacher(run: Run) -> Section | None:
    scored = [pair for pair in run.pairs if pair.scores is not None]
    before = [pair for pair in scored if pair.source in ("sampled", "labeled")]
    refined = [pair for pair in scored if pair.source == "refined"]
    html = joined(
        charts([*_scores(before, refined), *_edits(refined)]),
        _steadiness(run, before),
    )
    return Section("teacher", "What the teacher did", html) if html else None


def _scores(before: list[PairRow], refined: list[PairRow]) -> list[Chart]:
    drawn = []
    if before:
        sides = {"chosen": [s[0] for s in map(_both, before)], "rejected": [s[1] for s in map(_both, before)]}
        caption = f"Scores of both responses in the {len(before):,} pairs as annotated, before any refinement."
        drawn.append(histogram("scores-before", "Scores before refinement", caption, sides, SCALE, "responses"))
    if refined:
        sides = {"refined": [s[0] for s in map(_both, refined)], "rejected": [s[1] for s in map(_both, refined)]}
        caption = (
            f"Scores of the refined response and of the rejected one that it was made from, in the {len(refined):,} "
            "refined pairs that passed the filters."
        )
        drawn.append(histogram("scores-after", "Scores after refinement", caption, sides, SCALE, "responses"))
    margins = {"before refinement": [p.margin for p in before], "refined pairs": [p.margin for p in refined]}
    shown = {name: [m for m in values if m is not None] for name, values in margins.items() if values}
    if shown:
        caption = "By how much the chosen response is ahead of the rejected one. It is what a margin loss learns from."
        drawn.append(histogram("margins", "Margins", caption, shown, MARGIN, "pairs"))
    return drawn


def _both(pair: PairRow) -> tuple[float, float]:
    assert pair.scores is not None
    return pair.scores


def _edits(refined: list[PairRow]) -> list[Chart]:
    measured = refined[:: -(-len(refined) // MEASURED)] if refined else []
    dots = [
        (float(Levenshtein.distance(pair.chosen, pair.rejected)), pair.margin)
        for pair in measured
        if pair.margin is not None
    ]
    if not dots:
        return []
    caption = (
        f"How far the refined response is from the one that it was made from, and the margin between the two, in "
        f"{len(dots):,} pairs. A flat line says that the teacher does not pay for the length of an edit."
    )
    return [scatter("edits", "Margins against edit distance", caption, dots, "edit distance, characters", MARGIN)]


def _steadiness(run: Run, before: list[PairRow]) -> Markup | None:
    """Ties, verdicts that the order changes, and whether what is shown first wins more often."""
    rows = [row for step in run.balances if (row := _asked(step))]
    shown = [pair.provenance["chosen_shown"] for pair in before if "chosen_shown" in pair.provenance]
    if not rows and not shown:
        return None
    parts = [
        table(
            "Ties and flips, in percent of the comparisons that were asked",
            ["step", "asked", "ties, percent", "in both orders", "flipped by the order, percent"],
            rows,
        )
    ]
    if shown:
        first = share_of([float(place == 1) for place in shown])
        parts.append(
            paragraph(
                f"Of the two responses, the one shown first was preferred in {percent(first.as_dict())} percent of "
                f"{len(shown):,} pairs. The order is drawn, so a teacher without a preference for a place has 50."
            )
        )
    return joined(*parts)


def _asked(step: dict[str, Any]) -> list[str] | None:
    """A row for a step that compares responses."""
    notes = step.get("notes", {})
    if not step["tied"] and BOTH not in notes:
        return None
    both = notes.get(BOTH, 0)
    flips = f"{100 * notes.get(FLIPPED, 0) / both:.1f}" if both else "–"
    return [step["step"], f"{step['in']:,}", f"{100 * step['tied'] / step['in']:.1f}", f"{both:,}", flips]
