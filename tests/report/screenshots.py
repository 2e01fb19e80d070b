"""The pictures in docs/report.md: python tests/report/screenshots.py RUN_DIR/report.html docs/images"""

from __future__ import annotations

import sys
from pathlib import Path

from chromium import PHONE, launched, visiting

TALL = (1180, 1500)


def main(report: Path, folder: Path) -> None:
    """The top of the page on a desk by day, and what the teacher did on a phone by night."""
    folder.mkdir(parents=True, exist_ok=True)
    with launched() as browser:
        with visiting(browser, report, TALL) as visit:
            visit.page.screenshot(path=folder / "report-desktop.png")
        with visiting(browser, report, PHONE, dark=True, scale=1.5) as visit:
            visit.page.evaluate("document.getElementById('teacher').scrollIntoView()")
            visit.page.screenshot(path=folder / "report-phone.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
