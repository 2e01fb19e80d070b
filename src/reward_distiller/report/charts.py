"""Charts as SVG in the page's own colours: one pair of axes each, both with a name and a unit, and a caption below.

Text stays text, colours are the page's variables (so that a dark page has a dark chart), and every chart says in words
what it shows to whoever cannot see it. The legend is the page's. Knows numbers and names only, and no runs.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from markupsafe import Markup

from reward_distiller.evaluate.plots import INKS, Curve, Point, bare, draw_intervals, drawn_svg, pen
from reward_distiller.report.text import shown

WIDTH, HEIGHT = 4.4, 2.9  # inches, drawn at about the width of a phone: there letters keep their size
TEXT, GRID = "#0a0b0c", "#0d0e0f"  # stand for the page's colours
COLORS = {TEXT: "var(--muted)", GRID: "var(--line)", **{ink: f"var(--ink-{at})" for at, ink in enumerate(INKS)}}
LONGEST = 30  # characters of a category on an axis; the table beside it has the whole name
DOTS = 400  # of a scatter plot: more hide each other
MOST_STEPS = 24  # bins of a histogram
POINTS = 160  # of a curve: as many as it has pixels to show
DROPPED = re.compile(  # what a file of its own needs, and a part of a page does not
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL
)
Bands = Mapping[str, Sequence[tuple[float, float, float]]]  # name -> (x, low, high)


@dataclass(frozen=True)
class Chart:
    """`x` and `y` are what stands at the axes; `legend` holds each name with the number of its pen."""

    id: str
    title: str
    caption: str
    x: str
    y: str
    svg: Markup
    legend: Sequence[tuple[str, int]] = field(default_factory=tuple)


def curves(
    id: str,
    title: str,
    caption: str,
    lines: Mapping[str, Curve],
    x: str,
    y: str,
    *,
    bands: Bands | None = None,
    logarithmic: bool = False,
    diagonal: bool = False,
    marked: bool = False,
) -> Chart:
    """Lines over x, with their bands where they have one; `marked` shows the points that are joined."""

    def paint(axis: Any) -> None:
        if diagonal:
            (at, value), *_ = next(iter(lines.values()))
            axis.axline((min(at, value),) * 2, slope=1, color=TEXT, linewidth=0.8, linestyle="--")
        for at, (name, points) in enumerate(lines.items()):
            if band := (bands or {}).get(name):
                axis.fill_between(*zip(*band, strict=True), color=pen(at)["color"], alpha=0.2, linewidth=0)
            marker = "o" if marked or len(points) == 1 else None
            axis.plot(*zip(*points, strict=True), linewidth=1.6, marker=marker, markersize=3.5, **pen(at))
        if logarithmic and all(value > 0 for points in lines.values() for _, value in points):
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")

    ends = {name: (points[0], points[-1]) for name, points in lines.items() if points}
    said = [f"{name}: from {_at(first)} to {_at(last)}" for name, (first, last) in ends.items()]
    return _chart(id, title, caption, x, y, paint, said, list(lines))


def intervals(
    id: str, title: str, caption: str, points: Mapping[str, Point], x: str, y: str, *, zero: bool = False
) -> Chart:
    """A point with its interval for each name, the first on top; `zero` marks where nothing would be."""
    names = list(points)

    def paint(axis: Any) -> None:
        draw_intervals(axis, names, points)
        if zero:
            axis.axvline(0, color=TEXT, linewidth=0.8)
        axis.set_yticks(range(len(names)), [_short(name) for name in names])
        axis.set_ylim(len(names) - 0.5, -0.5)

    said = [
        f"{name}: {_number(value)}" + (f" from {_number(low)} to {_number(high)}" if None not in (low, high) else "")
        for name, (value, low, high) in points.items()
    ]
    return _chart(id, title, caption, x, y, paint, said, (), height=0.9 + 0.3 * len(names))


def histogram(id: str, title: str, caption: str, groups: Mapping[str, Sequence[float]], x: str, what: str) -> Chart:
    """How the values of each group are spread, in percent of the group; `what` names what is counted."""
    edges = _edges(np.concatenate([np.asarray(values, dtype=float) for values in groups.values()]))
    shares = {name: 100 * np.histogram(values, edges)[0] / max(1, len(values)) for name, values in groups.items()}

    def paint(axis: Any) -> None:
        for at, share in enumerate(shares.values()):
            axis.stairs(share, edges, fill=True, color=pen(at)["color"], alpha=0.2, linewidth=0)
            axis.stairs(share, edges, linewidth=1.6, **pen(at))
        axis.set_ylim(bottom=0)

    said = [f"{name}: {len(v):,} values, mean {_number(float(np.mean(v)))}" for name, v in groups.items() if len(v)]
    return _chart(id, title, caption, x, f"{what}, percent", paint, said, list(groups))


def stacked(id: str, title: str, caption: str, rows: Mapping[str, Mapping[str, float]], x: str, y: str) -> Chart:
    """A bar for each row, the first on top, made of parts that share their names."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))

    def paint(axis: Any) -> None:
        left = np.zeros(len(rows))
        for at, part in enumerate(parts):
            width = np.array([row.get(part, 0.0) for row in rows.values()])
            axis.barh(range(len(rows)), width, left=left, color=INKS[at % len(INKS)], height=0.62, linewidth=0)
            left += width
        axis.set_yticks(range(len(rows)), [_short(name) for name in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.grid(axis="y", linewidth=0)

    said = [
        f"{name}: " + ", ".join(f"{part} {_number(share)}" for part, share in row.items() if share)
        for name, row in rows.items()
    ]
    return _chart(id, title, caption, x, y, paint, said, parts, height=1.0 + 0.3 * len(rows))


def scatter(id: str, title: str, caption: str, dots: Sequence[tuple[float, float]], x: str, y: str) -> Chart:
    """Dots, thinned out evenly where they are many, and the median of y in tenths of x, over all of them."""
    ordered = sorted(dots)
    x_N, y_N = np.array(ordered).T
    part_N = np.searchsorted(np.unique(np.quantile(x_N, np.linspace(0, 1, 11)))[1:-1], x_N, side="right")
    parts = [part_N == part for part in np.unique(part_N)]  # equal x stay together
    middle = [(float(np.median(x_N[part])), float(np.median(y_N[part]))) for part in parts]
    shown = ordered[:: -(-len(ordered) // DOTS)]

    def paint(axis: Any) -> None:
        axis.scatter(*zip(*shown, strict=True), s=7, color=INKS[0], alpha=0.35, linewidths=0)
        axis.plot(*zip(*middle, strict=True), linewidth=1.8, marker="o", markersize=3.5, color=INKS[1])

    said = [f"median {_number(b)} at {_number(a)}" for a, b in middle]
    return _chart(id, title, caption, x, y, paint, said, ["a pair", "median of a tenth of the pairs"])


def thinned(points: Curve) -> Curve:
    """As many points as can be seen: means of neighbours where there are more."""
    if len(points) <= POINTS:
        return points
    size = -(-len(points) // POINTS)
    parts = [points[at : at + size] for at in range(0, len(points), size)]
    return [(float(np.mean([x for x, _ in part])), float(np.mean([y for _, y in part]))) for part in parts]


def _edges(values: Any) -> Any:
    """A bin for each value that a scale has where it has few, as a teacher's does; else 24 of a size."""
    low, high = float(values.min()), float(values.max())
    for step in (1.0, 0.5):
        if (high - low) / step < MOST_STEPS and np.allclose(values / step, np.round(values / step)):
            return np.arange(low - step / 2, high + step, step)
    return np.linspace(low, high, 25) if high > low else np.array([low - 0.5, low + 0.5])


def _chart(
    id: str,
    title: str,
    caption: str,
    x: str,
    y: str,
    paint: Callable[[Any], None],
    said: Sequence[str],
    legend: Sequence[str],
    height: float = HEIGHT,
) -> Chart:
    id = re.sub(r"[^a-z0-9]+", "-", id.lower())

    def whole(figure: Any) -> None:
        axis = figure.subplots()
        axis.set_axisbelow(True)
        axis.grid(linewidth=0.6)
        bare(axis, "top", "right")
        paint(axis)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        if axis.get_xscale() == "linear":
            axis.locator_params(axis="x", nbins=6)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the measuring font lacks; the page's font may have them
        drawn = _svg(height, whole)
    named = [(name, at) for at, name in enumerate(legend)]
    return Chart(id, title, caption, x, y, _inline(drawn, id, title, " ".join(f"{each}." for each in said)), named)


def _svg(height: float, whole: Callable[[Any], None]) -> str:
    return drawn_svg(
        (WIDTH, height),
        whole,
        svg__fonttype="none",
        font__size=10,
        text__parse_math=False,
        text__color=TEXT,
        axes__labelcolor=TEXT,
        axes__edgecolor=TEXT,
        xtick__color=TEXT,
        ytick__color=TEXT,
        grid__color=GRID,
        savefig__transparent=True,
    )


def _inline(svg: str, id: str, title: str, said: str) -> Markup:
    """The drawing as a part of the page: no ids that others have, and what it is for who does not see it."""
    svg = DROPPED.sub("", shown(svg))
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{id}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{id}-", svg)
    for color, variable in COLORS.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--sans)", svg)
    box = re.search(r'viewBox="([^"]*)"', svg)
    start = svg.index(">", svg.index("<svg")) + 1
    head = Markup(
        '<svg role="img" viewBox="{}" aria-labelledby="{}-title {}-desc"><title id="{}-title">{}</title>'
        '<desc id="{}-desc">{}</desc>'
    ).format(box[1] if box else "", id, id, id, shown(title), id, shown(said))
    return head + Markup(re.sub(r"\n\s*", "\n", svg[start:]))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def _at(point: tuple[float, float]) -> str:
    return f"{_number(point[1])} at {_number(point[0])}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
