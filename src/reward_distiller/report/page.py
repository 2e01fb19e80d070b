"""The report: one page made of a run's folder, that needs nothing but a browser.

No part of it is loaded from anywhere, and its own policy forbids that. The same folder makes the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from reward_distiller.errors import ConfigError, DataError
from reward_distiller.evaluate.plots import check_plots
from reward_distiller.files import write_bytes
from reward_distiller.report.markup import environment
from reward_distiller.report.run import MEND, Run
from reward_distiller.report.section import Section
from reward_distiller.report.sections.answer import answer
from reward_distiller.report.sections.benchmarks import benchmarks
from reward_distiller.report.sections.bias import bias
from reward_distiller.report.sections.comparison import comparison
from reward_distiller.report.sections.cost import cost
from reward_distiller.report.sections.funnel import funnel
from reward_distiller.report.sections.labels import labels
from reward_distiller.report.sections.policy import policy
from reward_distiller.report.sections.rewards import rewards
from reward_distiller.report.sections.setup import setup
from reward_distiller.report.sections.teacher import teacher
from reward_distiller.report.sections.training import training

FILE = "report.html"
Maker = Callable[[Run], Section | None]


def _browser(run: Run) -> Section | None:
    """The pair browser, where this package has one."""
    name = "reward_distiller.report.browser"
    if importlib.util.find_spec(name) is None:
        return None
    section: Section | None = importlib.import_module(name).browser(run.folder)
    return section


MAKERS: tuple[Maker, ...] = (
    answer,
    comparison,
    funnel,
    teacher,
    labels,
    training,
    rewards,
    benchmarks,
    bias,
    policy,
    _browser,
    cost,
    setup,
)


def write_report(folder: Path, file: Path | None = None) -> Path:
    """Write the page (and the folder of script files beside it, where it needs one); give its path.

    Raises MissingExtra, ConfigError for what is no finished run, DataError for a file that cannot be read.
    """
    check_plots()
    file = file or folder / FILE
    run = Run(folder)
    sections = [made for maker in MAKERS if (made := _made(maker, run)) is not None]
    for section in sections:
        for name, data in section.files.items():
            write_bytes(file.parent / name, data)
    write_bytes(file, page(run, sections).encode("utf-8"))
    return file


def _made(maker: Maker, run: Run) -> Section | None:
    try:
        return maker(run)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ZeroDivisionError) as error:
        what = f"not what a run writes: section {maker.__name__.strip('_')!r} met {type(error).__name__} {error}"
        raise DataError(run.folder, what, mend=MEND) from error


def page(run: Run, sections: Sequence[Section]) -> str:
    """The whole page. Raises ConfigError for a script that would end its own element."""
    scripts = list(dict.fromkeys(s.script for s in sections if s.script))
    styles = list(dict.fromkeys([_asset("report.css"), *(s.style for s in sections if s.style)]))
    for text, end in ((t, e) for texts, e in ((scripts, "</script"), (styles, "</style")) for t in texts):
        if end in text.lower():
            raise ConfigError(f"a script or style of the report holds {end!r}. Write it in two parts")
    template = environment().get_template("page.html.jinja")
    return template.render(
        title=run.title,
        policy=_policy(scripts, beside=any(s.files for s in sections)),
        styles=[Markup(style) for style in styles],
        scripts=[Markup(script) for script in scripts],
        sections=[{"id": s.id, "title": s.title, "html": Markup(s.html)} for s in sections],
    )


def _policy(scripts: Sequence[str], *, beside: bool) -> str:
    """The content security policy: nothing is loaded but the scripts in the page, by their hashes.

    Where scripts lie `beside` the page, the ones in it may load them, and nobody else.
    """
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    allowed = " ".join([*hashes, *(["'strict-dynamic'"] if beside else [])]) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (resources.files("reward_distiller.report") / "assets" / name).read_text("utf-8")
