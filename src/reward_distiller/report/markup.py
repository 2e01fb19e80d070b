"""The parts that sections are made of, as markup in which every text is escaped. Knows no runs and no charts' making.

Text comes from teachers, servers and other people's files: whatever it holds is shown as text, control characters and
halves of characters as the sign for what cannot be shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reward_distiller.evaluate.plots import INKS
from reward_distiller.report.charts import Chart
from reward_distiller.report.text import shown


@cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("reward_distiller.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        keep_trailing_newline=False,
    )
    made.globals["inks"] = len(INKS)
    return made


def _finalized(value: Any) -> Any:
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _part(name: str, *arguments: Any) -> Markup:
    return Markup(getattr(environment().get_template("parts.html.jinja").module, name)(*arguments))


def joined(*parts: Markup | None) -> Markup:
    return Markup("\n").join(part for part in parts if part)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Markup:
    """The first `texts` columns hold texts, the others numbers; the first names its row. Nothing without rows."""
    return _part("table", caption, heads, rows, texts) if rows else Markup()


def charts(drawn: Sequence[Chart]) -> Markup:
    return _part("charts", drawn) if drawn else Markup()


def paragraph(text: str, kind: str = "") -> Markup:
    return _part("paragraph", text, kind)


def listed(items: Sequence[str]) -> Markup:
    return _part("listed", items) if items else Markup()


def facts(pairs: Sequence[tuple[str, str]]) -> Markup:
    return _part("facts", pairs) if pairs else Markup()


def figure(value: str, unit: str, what: str) -> Markup:
    """The one number that a section opens with."""
    return _part("figure", value, unit, what)


def folded(summary: str, text: str) -> Markup:
    return _part("folded", summary, text)
