"""Plots: what stands in them, the same bytes each time, and no plot where the extra is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reward_distiller.errors import MissingExtra
from reward_distiller.evaluate.plots import plot_curves, plot_intervals

PANELS = {
    "average": {"BT $x^2$ | Classifier": (60.0, 58.0, 62.0), "RM-Distiller": (70.0, None, None)},
    "hard_$": {"RM-Distiller": (50.0, 40.0, 60.0)},
}


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.svg", "b.svg", "c.svg")]
    plot_intervals(paths[0], PANELS)
    plot_intervals(paths[1], PANELS)
    script = (
        "import sys; from pathlib import Path; from reward_distiller.evaluate.plots import plot_intervals;"
        f"plot_intervals(Path(sys.argv[1]), {PANELS!r})"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}  # no display
    subprocess.run([sys.executable, "-c", script, paths[2]], check=True, env=environment)
    assert len({path.read_bytes() for path in paths}) == 1
    root = ElementTree.parse(paths[0]).getroot()
    assert root.tag.endswith("svg")
    assert "RM-Distiller" in paths[0].read_text("utf-8")  # as comments beside the glyphs
    assert "$x^2$" in paths[0].read_text("utf-8")
    assert "date" not in paths[0].read_text("utf-8").lower()


def test_curves_have_axes_and_a_legend_and_the_same_bytes(tmp_path: Path) -> None:
    panels = {"reward_$": {"a": [(1.0, 0.5), (2.0, 0.7)], "b": [(1.0, 0.1)]}, "KL": {"b": [(1.0, 0.0), (2.0, 3.0)]}}
    for name in ("a.svg", "b.svg"):
        plot_curves(tmp_path / name, panels, "step")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert all(f"<!-- {word} -->" in text for word in ("reward_$", "KL", "step", "a", "b"))


def test_other_numbers_give_another_plot(tmp_path: Path) -> None:
    plot_intervals(tmp_path / "a.svg", PANELS)
    plot_intervals(tmp_path / "b.svg", {**PANELS, "average": {"RM-Distiller": (71.0, 66.0, 73.0)}})
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"reward-distiller\[plot\]"):
        plot_intervals(tmp_path / "a.svg", PANELS)
    assert not list(tmp_path.iterdir())
