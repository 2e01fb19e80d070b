"""Means with their intervals, and curves, as a picture: one panel a metric. Needs the extra `plot`.

The same numbers give the same bytes: nothing random and no date goes into the file. Knows no runs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from reward_distiller.errors import MissingExtra
from reward_distiller.files import write_bytes

Point = tuple[float, float | None, float | None]  # mean, low, high; the bounds are None where none are known
Curve = Sequence[tuple[float, float]]
INKS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito: all can tell


def check_plots() -> None:
    """Raises MissingExtra where nothing can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "plot")


def plot_curves(path: str | Path, panels: Mapping[str, Mapping[str, Curve]], x: str) -> None:
    """Write an SVG: for each panel's title, each name's curve over what `x` names.

    Raises MissingExtra, and FileError where the file cannot be written.
    """
    check_plots()
    import matplotlib
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"svg.hashsalt": "reward-distiller", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(1.0 + 3.4 * columns, 0.8 + 2.4 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flat
        for axis, (title, curves) in zip(axes, panels.items(), strict=False):
            for name, points in curves.items():
                at = names.index(name)
                style = ("-", "--", ":")[at // len(INKS) % 3]
                axis.plot(*zip(*points, strict=True), style, color=INKS[at % len(INKS)], linewidth=1.2, label=name)
            axis.set_title(title, fontsize=10, parse_math=False)
            axis.set_xlabel(x, fontsize=9)
            axis.grid(linewidth=0.4)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        for axis in list(axes)[len(panels) :]:
            axis.set_visible(False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(path, drawn.getvalue())


def plot_intervals(path: str | Path, panels: Mapping[str, Mapping[str, Point]]) -> None:
    """Write an SVG: for each panel's title, each name's point with its interval, the first name on top.

    Raises MissingExtra, and FileError where the file cannot be written.
    """
    check_plots()
    import matplotlib
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for points in panels.values() for name in points))
    ink = {name: INKS[i % len(INKS)] for i, name in enumerate(names)}
    with matplotlib.rc_context({"svg.hashsalt": "reward-distiller", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(2.0 + 2.6 * len(panels), 1.0 + 0.35 * len(names)), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (title, points) in zip(axes, panels.items(), strict=True):
            for name, (mean, low, high) in points.items():
                row = names.index(name)
                if low is not None and high is not None:
                    axis.plot([low, high], [row, row], color=ink[name], linewidth=1.5)
                axis.plot([mean], [row], "o", color=ink[name], markersize=5)
            axis.set_title(title, fontsize=10, parse_math=False)
            axis.grid(axis="x", linewidth=0.4)
            for side in ("top", "right", "left"):
                axis.spines[side].set_visible(False)
            axis.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(names)), names, parse_math=False)
        axes[0].set_ylim(len(names) - 0.5, -0.5)
        drawn = BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(path, drawn.getvalue())
