"""The guide's pages hold together: links lead somewhere, references are those of the code, exit codes are all told."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from pages import DOCS, PAGES, ROOT, anchors, blocks, name_of, prose

from reward_distiller import __version__, errors
from reward_distiller.config import Section


def links(path: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", prose(path))
    return re.findall(r"\]\(([^)\s]+)\)", text)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for link in links(path):
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{link}: there is no {target}"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# One `two`, three\n\n# One `two`, three\n")
    (tmp_path / "page.md").write_text(
        "[a](there.md#one-two-three-1)\n\n    [no](link.md)\n\n`[no](x.md)` [b](gone.md)\n"
    )
    assert links(tmp_path / "page.md") == ["there.md#one-two-three-1", "gone.md"]
    assert anchors(tmp_path / "there.md") == {"one-two-three", "one-two-three-1"}


def test_every_page_is_in_the_guide() -> None:
    listed = {line for block in blocks(DOCS / "index.md") if "toctree" in block.language for line in block.text.split()}
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert pages - {"index"} <= listed


def test_what_is_built_needs_no_network() -> None:
    conf = (DOCS / "conf.py").read_text()
    assert "intersphinx" not in conf
    assert "http" not in conf


def test_the_references_are_those_of_the_code() -> None:
    for path, text in runpy.run_path(str(DOCS / "generate.py"))["pages"]().items():
        assert path.read_text("utf-8") == text.rstrip() + "\n", f"{name_of(path)} is an older one: make reference"


def every(kind: type) -> list[type]:
    return [kind, *(below for each in kind.__subclasses__() for below in every(each))]


def test_every_setting_says_what_it_means() -> None:
    for section in every(Section)[1:]:
        if section.__module__.startswith("reward_distiller.config."):
            assert section.__doc__ or section.__name__ == "WholeRun", section
            for name, field in section.model_fields.items():
                below = re.search(r"reward_distiller\.config\.\w+\.\w+", str(field.annotation))
                assert field.description or below, f"{section.__name__}.{name} says nothing"


def test_every_error_is_in_troubleshooting_with_its_exit_code() -> None:
    text = (DOCS / "troubleshooting.md").read_text("utf-8")
    rows = {int(code): row for code, row in re.findall(r"^\| (\d+) \|(.*)\|$", text, re.M)}
    for error in every(errors.RewardDistillerError):
        if error is errors.RunFailed:
            assert f"`{error.__name__}`" in text
        elif error.__module__ == errors.__name__:
            assert f"`{error.__name__}`" in rows[error.exit_code], error
    readme = (ROOT / "README.md").read_text("utf-8")
    for code in set(rows) - {1}:
        assert f"\n| {code} |" in readme, f"the README does not tell exit code {code}"


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert project["version"] == __version__ == citation["version"]
    assert citation["license"] == project["license"]
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert [ref["url"].rsplit("/")[-1] for ref in citation["references"]] == ["2601.14032", "2502.19557"]


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 180
