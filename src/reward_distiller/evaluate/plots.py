"""Means with their intervals, and curves, as a picture: one panel a metric. Needs the extra `plot`.

The same numbers give the same bytes: nothing random and no date goes into the file. Knows no runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from reward_distiller.errors import MissingExtra
from reward_distiller.files import write_bytes

Point = tuple[float, float | None, float | None]  # mean, low, high; the bounds are None where none are known
Curve = Sequence[tuple[float, float]]
INKS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito: all can tell
STYLES = ("-", "--", ":")  # when the inks are used up


def check_plots() -> None:
    """Raises MissingExtra where nothing can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plot")


def drawn_svg(size: tuple[float, float], paint: Callable[[Any], None], **settings: Any) -> str:
    """What `paint` draws on a figure of that size in inches; `settings` are matplotlib's, a dot as two underscores.

    Raises MissingExtra.
    """
    check_plots()
    import matplotlib
    from matplotlib.figure import Figure

    own = {name.replace("__", "."): value for name, value in settings.items()}
    with matplotlib.rc_context({"svg.hashsalt": "reward-distiller", "font.family": "DejaVu Sans", **own}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return drawn.getvalue().decode("utf-8")


def bare(axis: Any, *sides: str) -> None:
    """No frame on these sides."""
    for side in sides:
        axis.spines[side].set_visible(False)


def pen(at: int) -> dict[str, str]:
    """The ink and the line style of the curve of that number."""
    return {"color": INKS[at % len(INKS)], "linestyle": STYLES[at // len(INKS) % len(STYLES)]}


def plot_curves(path: str | Path, panels: Mapping[str, Mapping[str, Curve]], x: str) -> None:
    """Write an SVG: for each panel's title, each name's curve over what `x` names.

    Raises MissingExtra, and FileError where the file cannot be written.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)

    def paint(figure: Any) -> None:
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for axis, (title, curves) in zip(axes, panels.items(), strict=False):
            for name, points in curves.items():
                axis.plot(*zip(*points, strict=True), linewidth=1.2, label=name, **pen(names.index(name)))
            axis.set_title(title, fontsize=10, parse_math=False)
            axis.set_xlabel(x, fontsize=9)
            axis.grid(linewidth=0.4)
            bare(axis, "top", "right")
        for axis in list(axes)[len(panels) :]:
            axis.set_visible(False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)

    write_bytes(path, drawn_svg((1.0 + 3.4 * columns, 0.8 + 2.4 * rows), paint).encode("utf-8"))


def plot_intervals(path: str | Path, panels: Mapping[str, Mapping[str, Point]]) -> None:
    """Write an SVG: for each panel's title, each name's point with its interval, the first name on top.

    Raises MissingExtra, and FileError where the file cannot be written.
    """
    names = list(dict.fromkeys(name for points in panels.values() for name in points))

    def paint(figure: Any) -> None:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, points) in zip(axes, panels.items(), strict=True):
            draw_intervals(axis, names, points)
            axis.set_title(title, fontsize=10, parse_math=False)
        axes[0].set_yticks(range(len(names)), names, parse_math=False)
        axes[0].set_ylim(len(names) - 0.5, -0.5)

    write_bytes(path, drawn_svg((2.0 + 2.6 * len(panels), 1.0 + 0.35 * len(names)), paint).encode("utf-8"))


def draw_intervals(axis: Any, names: Sequence[str], points: Mapping[str, Point]) -> None:
    """Each point with its interval, in the row of its name."""
    for name, (mean, low, high) in points.items():
        row = names.index(name)
        ink = INKS[row % len(INKS)]
        if low is not None and high is not None:
            axis.plot([low, high], [row, row], color=ink, linewidth=1.5)
        axis.plot([mean], [row], "o", color=ink, markersize=5)
    axis.grid(axis="x", linewidth=0.4)
    bare(axis, "top", "right", "left")
    axis.tick_params(axis="y", length=0)
