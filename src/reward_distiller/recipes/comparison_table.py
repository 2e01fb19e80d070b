"""The table of a comparison, as Markdown: a row for each arm, one for each trivial scorer, and what a reader must know.

Takes what results.json holds and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from reward_distiller.recipes.comparison_figures import title

TRIVIAL = {  # scorers that read no text; they stand in the column of the accuracy on held-out pairs
    "held_out.longer_response": "always the longer response",
    "held_out.source_model": "knowing only which model wrote it",
}
HELD_OUT = "held_out.accuracy"
NONE = "–"


def table(results: dict[str, Any]) -> str:
    """Means with 95% intervals, differences to the first arm, pairs, calls and times; trivial scorers; notes."""
    pairs = pair_rows(results)
    lines = [*_markdown(arm_rows(results)), "", *([*_markdown(pairs), ""] if pairs else [])]
    return "\n".join([*lines, " ".join(notes(results)), ""])


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return lines


def arm_rows(results: dict[str, Any]) -> list[list[str]]:
    """The table's cells: the heads, a row for each arm, and one for each trivial scorer."""
    arms = results["arms"]
    columns = [*_figures(results), *_differences(results), *_costs(arms)]
    rows = [["", *(head for head, _ in columns)]]
    rows += [[name, *(cells[name] for _, cells in columns)] for name in arms]
    if HELD_OUT in results["columns"]:
        place = 1 + results["columns"].index(HELD_OUT)
        for scorer, name in TRIVIAL.items():
            for cell, names in _distinct(arms, scorer):
                full = name if len(names) == len(arms) else f"{name} ({', '.join(names)})"
                rows.append([full, *(cell if i == place else NONE for i in range(1, len(rows[0])))])
    return rows


def pair_rows(results: dict[str, Any]) -> list[list[str]]:
    """The differences of the pairs that the comparison names, in all columns, under their heads."""
    pairs = results.get("pairs") or []
    if not pairs:
        return []
    compared = results["compare_on"]
    rows = [["", *map(title, results["columns"]), f"p ({title(compared)})", "p (Holm)"]]
    for pair in pairs:
        found = pair["difference"]
        d = found.get(compared)
        cells = [_interval(found.get(metric), sign="+") for metric in results["columns"]]
        rows.append([f"{pair['arm']} − {pair['against']}", *cells, p_value(d and d["p"]), p_value(d and d["p_holm"])])
    return rows


Column = tuple[str, dict[str, str]]  # head, and arm -> cell


def _figures(results: dict[str, Any]) -> list[Column]:
    arms = results["arms"]
    return [
        (title(m), {name: _interval(arm["summary"].get(m)) for name, arm in arms.items()}) for m in results["columns"]
    ]


def _differences(results: dict[str, Any]) -> list[Column]:
    """The compared metric against the first arm; p-values, and corrected ones where there are several."""
    found = {name: arm["difference"].get(results["compare_on"]) for name, arm in results["arms"].items()}
    if not any(found.values()):
        return []
    first = next(iter(found))
    head = f"{title(results['compare_on'])} − {first}"
    columns = [
        (head, {name: _interval(d, sign="+") for name, d in found.items()}),
        ("p", {name: p_value(d and d["p"]) for name, d in found.items()}),
    ]
    if sum(d is not None and d["p"] is not None for d in found.values()) > 1:
        columns.append(("p (Holm)", {name: p_value(d and d["p_holm"]) for name, d in found.items()}))
    return columns


def _costs(arms: dict[str, Any]) -> list[Column]:
    """What a run took: medians over seeds. Columns that no arm has anything in are left out."""
    columns = [
        ("training pairs", {name: _pairs(_runs(arm)) for name, arm in arms.items()}),
        ("teacher calls (tokens) in training", _calls(arms, lambda step: not _elsewhere(step))),
        ("at evaluation", _calls(arms, lambda step: step.startswith("evaluate"))),
        ("candidates' calls (tokens)", _calls(arms, lambda step: step == "candidates")),
        ("training time", {name: _seconds([r["train_seconds"] for r in _runs(arm)]) for name, arm in arms.items()}),
    ]
    return [(head, cells) for head, cells in columns if set(cells.values()) != {NONE}]


def _elsewhere(step: str) -> bool:
    return step == "candidates" or step.startswith("evaluate")


def _runs(arm: Any) -> list[dict[str, Any]]:
    return list(arm["runs"].values())


def _pairs(runs: Sequence[dict[str, Any]]) -> str:
    """All pairs, and of them those that a method has made beyond what all have."""
    if (pairs := _median(run["pairs"] for run in runs)) is None:
        return NONE
    sources = sorted({s for run in runs for s in run["pairs_by_source"]} - {"sampled", "labeled"})
    of_source = {s: _median(run["pairs_by_source"].get(s, 0) for run in runs) for s in sources}
    made = ", ".join(f"{count:,.0f} {source}" for source, count in of_source.items())
    return f"{pairs:,.0f}" + (f" ({made})" if made else "")


def _calls(arms: dict[str, Any], of_step: Any) -> dict[str, str]:
    cells = {}
    for name, arm in arms.items():
        spent = [[row for row in run["cost"] if of_step(str(row.get("step", "")))] for run in _runs(arm)]
        calls, tokens = (
            _median(sum(row.get(n) or 0 for row in rows for n in names) for rows in spent) or 0
            for names in (("calls",), ("input_tokens", "output_tokens"))
        )
        unknown = any(row.get("without_usage") for rows in spent for row in rows)
        cells[name] = f"{calls:,.0f} ({'at least ' if unknown else ''}{short(tokens)})" if calls else NONE
    return cells


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def short(count: float) -> str:
    """A count in three digits or so."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def _seconds(values: Sequence[float | None]) -> str:
    seconds = _median(values)
    if seconds is None:
        return NONE
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.1f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _interval(figure: dict[str, Any] | None, sign: str = "") -> str:
    if figure is None:
        return NONE
    mean = f"{figure['mean']:{sign}.1f}"
    if figure["low"] is None:
        return mean
    return f"{mean} [{figure['low']:{sign}.1f}, {figure['high']:{sign}.1f}]"


def p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _distinct(arms: dict[str, Any], scorer: str) -> list[tuple[str, list[str]]]:
    """A trivial scorer's cells with the arms that they belong to: one, unless arms differ in their held-out pairs."""
    found: dict[str, list[str]] = {}
    for name, arm in arms.items():
        if scorer in arm["summary"]:
            found.setdefault(_interval(arm["summary"][scorer]), []).append(name)
    return list(found.items())


def notes(results: dict[str, Any]) -> list[str]:
    """What the figures are, and what a reader must know of the arms to compare them."""
    arms, seeds = results["arms"], results["seeds"]
    if len(seeds) > 1:
        lines = [
            f"Means over seeds {', '.join(map(str, seeds))}, with 95% intervals over seeds (Student's t); p: two-sided "
            "paired t-test over seeds. Pairs, calls and times are medians over seeds."
        ]
    else:
        lines = [
            f"One seed, {seeds[0]}: 95% intervals are over the test prompts of that one run. They say nothing of other "
            "seeds, so there is no p-value."
        ]
    runs = [run for arm in arms.values() for run in _runs(arm)]
    if prompts := _counts(run["figures"][HELD_OUT].get("n") for run in runs if HELD_OUT in run["figures"]):
        lines.append(
            f"Held-out pairs are of {prompts} prompts unseen in training; {_counts(r['too_long'] for r in runs)} more "
            "pairs were too long."
        )
    sets = {run["held_out_pairs"] for run in runs if HELD_OUT in run["figures"]}
    if HELD_OUT in results["columns"] and len(sets) > len(seeds):
        lines.append("Not all arms have the same held-out pairs; differences are given where they do.")
    recorded = [name for name, arm in arms.items() if arm.get("teacher", "") is None]
    if recorded:
        named = "all arms" if len(recorded) == len(arms) else ", ".join(recorded)
        lines.append(f"Recorded teacher (scores read from the data set, no calls): {named}.")
    return lines


def _counts(counts: Iterable[int | None]) -> str:
    """A number, or from the least to the most."""
    known = [count for count in counts if count is not None]
    return "" if not known else f"{min(known)}" if len(set(known)) == 1 else f"{min(known)} to {max(known)}"
