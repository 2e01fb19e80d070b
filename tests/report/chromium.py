"""A page from disk, opened in headless Chromium: what it says on its console, and what it asks of the network."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)  # CSS pixels; the second is the width that most phones have or exceed


def executable() -> str:
    """Where Chromium is. Skips the test where it, or what drives it, is not installed."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("chromium is not installed: tests/report/install_chromium.sh")
    return found


@contextmanager
def launched() -> Iterator[Any]:
    """A running Chromium, as playwright's Browser."""
    path = executable()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root has no sandbox; and what Chromium asks of its maker on its own is not the page's doing.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=[*options, "--disable-background-networking"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """`page` is playwright's. `errors` are those of the console and of scripts; `network` all that is not from disk."""

    page: Any
    errors: list[str] = field(default_factory=list)
    network: list[str] = field(default_factory=list)

    @property
    def sideways(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def until(self, condition: str, seconds: float = 5.0) -> None:
        """Wait until the JavaScript expression is true. The page's own policy forbids playwright's way of waiting."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, f"not within {seconds} s: {condition}"
            time.sleep(0.02)


@contextmanager
def visiting(
    browser: Any, file: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False, scale: float = 1.0
) -> Iterator[Visit]:
    """The page of a file in a window of its own. Where it opened a dialog, that is an error of the page."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        device_scale_factor=scale,
        has_touch=size == PHONE,
        service_workers="block",
    )
    try:
        visit = Visit(context.new_page())
        page = visit.page
        page.on("console", lambda m: visit.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on("dialog", lambda dialog: (visit.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else visit.network.append(r.url)
        )
        page.goto(file.resolve().as_uri())
        yield visit
    finally:
        context.close()


def accessibility_problems(page: Any) -> list[str]:
    """What axe-core, on which Lighthouse stands, finds wrong: labels, contrast, landmarks, headings, keyboard."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{problem['id']}: {problem['help']}: {node['html'][:200]}"
        for problem in Axe().run(page).response["violations"]
        for node in problem["nodes"]
    ]
