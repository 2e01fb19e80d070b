"""The report in headless Chromium: no error, no network, readable on a phone, usable without a mouse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chromium import DESKTOP, PHONE, accessibility_problems, visiting
from run_folders import KINDS

from reward_distiller.report.page import write_report

SMALLEST = 9  # CSS pixels of a chart's letters on a phone


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {kind: write_report(make(folder / kind)) for kind, make in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_without_an_error_and_fits_a_phone(chromium: Any, pages: dict[str, Path], kind: str) -> None:
    for size, dark in ((DESKTOP, False), (PHONE, True), (PHONE, False)):
        with visiting(chromium, pages[kind], size, dark=dark) as visit:
            assert not visit.errors
            assert not visit.network
            assert visit.sideways <= 0
            assert not accessibility_problems(visit.page)


def test_charts_can_be_read_on_a_phone_and_in_the_dark(chromium: Any, pages: dict[str, Path]) -> None:
    """Letters, lines and the page behind them, as the browser paints them."""
    painted = """() => [...document.querySelectorAll('figure.chart')].map(figure => {
        const svg = figure.querySelector('svg[role=img]'), letters = [...svg.querySelectorAll('text')]
        return {
            x: figure.dataset.x, y: figure.dataset.y, texts: letters.map(t => t.textContent),
            heights: letters.map(t => parseFloat(getComputedStyle(t).fontSize) * svg.getScreenCTM().a),
            fills: [...new Set(letters.map(t => getComputedStyle(t).fill))],
            page: getComputedStyle(figure.closest('section')).backgroundColor,
            caption: figure.querySelector('figcaption').textContent,
            below: figure.querySelector('figcaption').offsetTop >= svg.getBoundingClientRect().height,
        }})"""
    for dark in (False, True):
        with visiting(chromium, pages["reward_model"], PHONE, dark=dark) as visit:
            charts = visit.page.evaluate(painted)
        assert len(charts) > 15
        for chart in charts:
            assert {chart["x"], chart["y"]} <= set(chart["texts"])
            assert min(chart["heights"]) >= SMALLEST
            assert all(contrast(fill, chart["page"]) >= 4.5 for fill in chart["fills"])
            assert chart["caption"].strip()
            assert chart["below"]


def test_it_can_be_used_with_the_keyboard_alone(chromium: Any, pages: dict[str, Path]) -> None:
    with visiting(chromium, pages["reward_model"]) as visit:
        page, active = visit.page, "document.activeElement"
        page.keyboard.press("Tab")
        assert page.evaluate(f"{active}.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate(f"{active}.id") == "content"
        page.evaluate(f"{active}.blur()")
        page.locator("nav a", has_text="Bias audit").focus()
        page.keyboard.press("Enter")
        visit.until("Math.abs(document.getElementById('bias').getBoundingClientRect().top) < 40")
        page.locator("summary", has_text="The config as it was resolved").focus()
        page.keyboard.press("Enter")
        assert page.locator("details:has-text('The config as it was resolved') pre").is_visible()
        outline = page.evaluate(f"getComputedStyle({active}).outlineStyle")
        assert outline != "none"


def test_wide_tables_move_in_their_own_box(chromium: Any, pages: dict[str, Path]) -> None:
    with visiting(chromium, pages["comparison"], PHONE) as visit:
        box = visit.page.locator(".scroll").first
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        box.focus()
        visit.page.keyboard.press("ArrowRight")
        visit.until("document.querySelector('.scroll').scrollLeft > 0")


def test_hostile_text_is_shown_and_does_nothing(chromium: Any, pages: dict[str, Path]) -> None:
    for kind in KINDS:
        with visiting(chromium, pages[kind]) as visit:
            assert visit.page.locator("img, iframe").count() == 0
            assert not [text for text in visit.page.locator("script").all_text_contents() if "alert(" in text]
            assert not visit.errors  # a dialog would be one
    with visiting(chromium, pages["comparison"]) as visit:
        assert "<script>alert(1)</script>" in visit.page.locator("h1").inner_text()


def contrast(one: str, other: str) -> float:
    """Of two colors as `rgb(r, g, b)`, as WCAG defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    shares = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * s for weight, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
