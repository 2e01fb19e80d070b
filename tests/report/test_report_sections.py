"""What stands in a report: the answer first, then what the run has, and nothing of what it has not."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import run_folders
from run_folders import HOSTILE, KINDS, figure

from reward_distiller.errors import ConfigError, DataError, MissingExtra
from reward_distiller.report import page as report_page
from reward_distiller.report.charts import curves, histogram, scatter
from reward_distiller.report.page import write_report
from reward_distiller.report.section import Section


class Reader(HTMLParser):
    """Headings, elements with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[tuple[int, str]] = []
        self.seen, self._open = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_data(self, data: str) -> None:
        if self._open not in ("style", "script"):
            self.seen += data
        if re.fullmatch("h[1-6]", self._open):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data.strip())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(folder: Path) -> Reader:
    return Reader(write_report(folder).read_text("utf-8"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reader]:
    folder = run_folders.reward_model(tmp_path_factory.mktemp("run"))
    return folder, read(folder)


def test_it_opens_with_the_answer(whole: tuple[Path, Reader]) -> None:
    text = whole[1].seen
    assert text.index("80.0%") < text.index("90 pairs came out")
    assert "95% interval 75.0 to 85.0 over 40 prompts" in text
    assert "ahead of always the longer response (+20.0 [+15.0, +25.0] points)" in text
    assert "not told apart from knowing only which model wrote it" in text
    assert "180 answers, at least 15.5 k tokens, price unknown" in text


def test_every_part_of_a_run_has_its_section_in_order(whole: tuple[Path, Reader]) -> None:
    found = [text for level, text in whole[1].headings if level == 2]
    assert found == [
        "The answer",
        "From prompts to pairs",
        "What the teacher did",
        "How it was trained",
        "What the reward model learned",
        "Benchmarks",
        "Bias audit",
        "What it cost",
        "How to make it again",
    ]
    levels = [level for level, _ in whole[1].headings]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_what_the_sections_say(whole: tuple[Path, Reader]) -> None:
    text = whole[1].seen
    assert "90 pairs came out: 30 refined, 60 sampled" in text
    assert "8 of these with another verdict in the other order" in text
    assert "EvalBiasBench, by bias" in text
    assert "Python 3.11.2, reward-distiller 0.1.0, torch 2.13.0" in text
    assert "0123456789abcdef, with uncommitted changes" in text
    assert "http://…@host/v1" in text
    assert "secret" not in text


def test_a_section_without_data_is_left_out(tmp_path: Path) -> None:
    folder = run_folders.reward_model(tmp_path)
    for name in ("balance.json", "pairs.jsonl", "training.jsonl", "pair_rewards.jsonl", "environment.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "evaluation")
    run_folders.write(folder, "results.json", {"method": "bce", "seed": 0, "training": {}, "cost": []})
    found = [text for level, text in read(folder).headings if level == 2]
    assert found == ["The answer", "How to make it again"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_chart_has_axes_with_units_and_a_caption(tmp_path: Path, kind: str) -> None:
    text = write_report(KINDS[kind](tmp_path)).read_text("utf-8")
    figures = re.findall(r'<figure class="chart" data-x="([^"]*)" data-y="([^"]*)">(.*?)</figure>', text, re.DOTALL)
    assert len(figures) == text.count("<figure") == text.count('role="img"')
    for x, y, body in figures:
        axes = Reader(body).seen
        assert all(axis in axes for axis in (Reader(x).seen, Reader(y).seen))
        assert any("," in axis for axis in (x, y)), f"no unit: {x}, {y}"
        assert re.search(r"<figcaption>\S.{20,}</figcaption>", body, re.DOTALL)
        assert re.search(r"<title[^>]*>\S.*</title><desc[^>]*>\S.*</desc>", body, re.DOTALL)


@pytest.mark.parametrize("kind", KINDS)
def test_text_stays_text(tmp_path: Path, kind: str) -> None:
    page = Reader(write_report(KINDS[kind](tmp_path)).read_text("utf-8"))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "img", "textarea", "iframe", "object", "link", "base", "form"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not re.search("[\x00\x1b\u202e\ud800-\udfff]", page.seen)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_data_make_the_same_bytes_wherever_they_lie(tmp_path: Path, kind: str) -> None:
    first = KINDS[kind](tmp_path / "one" / "run")
    second = shutil.copytree(first, tmp_path / "other")
    assert write_report(first).read_bytes() == write_report(second, tmp_path / "named.html").read_bytes()
    assert write_report(first).read_bytes() == (tmp_path / "named.html").read_bytes()


def test_no_part_of_the_page_is_loaded(whole: tuple[Path, Reader]) -> None:
    page = whole[1]
    places = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href")
    ]
    assert places
    assert all(place is not None and place.startswith("#") for place in places)
    policy = next(m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'none'")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {place[1:] for place in places if place} <= set(ids)


def test_scripts_of_sections_are_let_in_by_their_hashes_and_stand_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one(run: object) -> Section:
        return Section("one", "One <b>", "<p>in</p>", script="let a = 1 < 2;", style="p { color: red }")

    def two(run: object) -> Section:
        return Section("two", "Two", "<p>out</p>", script="let a = 1 < 2;", files={"data/pairs-0.js": b"rows([])"})

    monkeypatch.setattr(report_page, "MAKERS", (one, two))
    file = write_report(run_folders.policy(tmp_path / "run"), tmp_path / "out" / "page.html")
    text = file.read_text("utf-8")
    assert text.count("<script>let a = 1 < 2;</script>") == 1
    assert "One &lt;b&gt;" in text
    assert (tmp_path / "out" / "data" / "pairs-0.js").read_bytes() == b"rows([])"
    policy = Reader(text).of("meta")[1]["content"]
    assert policy is not None
    assert re.search(r"script-src 'sha256-[\w+/=]{44}' 'strict-dynamic';", policy)
    monkeypatch.setattr(report_page, "MAKERS", (lambda run: Section("bad", "Bad", "", script="'</SCRIPT>'"),))
    with pytest.raises(ConfigError, match="script"):
        write_report(tmp_path / "run")


# -- what cannot be made ------------------------------------------------------------------------------


def test_what_is_no_finished_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        write_report(tmp_path / "none")
    with pytest.raises(ConfigError, match="not a folder of"):
        write_report(tmp_path)
    folder = run_folders.reward_model(tmp_path / "run")
    (folder / "results.json").unlink()
    with pytest.raises(ConfigError, match="has not ended"):
        write_report(folder)
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("results.json", "{", r"results\.json: not valid JSON"),
        ("results.json", "[]", r"results\.json: not what a run writes there, but a list"),
        ("config.yaml", "a: [", r"config\.yaml: not valid YAML"),
        ("pairs.jsonl", '{"id": 1}\n', r"pairs\.jsonl, row 1, field 'chosen_score': missing"),
        ("training.jsonl", '{"step": 1}\n{"step": "x"}\n', r"training\.jsonl, row 2: not what a run writes"),
        ("training.jsonl", '{"step": 1}\n{"st', r"training\.jsonl, row 2: not valid JSON"),
        (
            "pair_rewards.jsonl",
            '{"id": "a", "chosen": "high", "rejected": 1, "split": "x"}\n',
            r"pair_rewards\.jsonl, row 1",
        ),
        ("results.json", json.dumps({"held_out": {"accuracy": 3}}), r"section 'answer' met TypeError"),
    ],
)
def test_a_broken_file_is_named_with_its_row(tmp_path: Path, name: str, text: str, said: str) -> None:
    folder = run_folders.reward_model(tmp_path)
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=said):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_folders.policy(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"reward-distiller\[plot\]"):
        write_report(folder)


def test_a_run_that_was_not_evaluated_says_so(tmp_path: Path) -> None:
    folder = run_folders.reward_model(tmp_path, held_out={}, testbed={}, contamination={}, ahead={})
    assert "Nothing says how good this reward model is" in read(folder).seen


def test_where_a_trivial_scorer_is_better_the_answer_says_so(tmp_path: Path) -> None:
    folder = run_folders.reward_model(tmp_path, ahead={"held_out": {"longer_response": figure(-9.0)}})
    assert "behind always the longer response (-9.0 [-14.0, -4.0] points)" in read(folder).seen


def test_one_seed_has_no_p_value_to_be_sure_of(tmp_path: Path) -> None:
    assert "nobody knows what another seed would give" in read(run_folders.comparison(tmp_path, seeds=1)).seen


# -- charts -------------------------------------------------------------------------------------------


def test_a_chart_has_the_page_s_colors_and_its_text_as_text() -> None:
    lines = {"$x^2$": [(1.0, 2.0), (2.0, 3.0)], HOSTILE: [(1.0, 1.0)]}
    chart = curves("a b<", "Title", "Caption", lines, "step, number", "loss, nats")
    assert not re.search(r"#(?!a-b-)[0-9a-f]{6}\b", chart.svg)
    assert "var(--ink-0)" in chart.svg
    assert ">loss, nats</text>" in chart.svg
    assert "<script" not in chart.svg


def test_one_value_and_equal_values_can_be_drawn() -> None:
    assert histogram("h", "T", "C", {"a": [3.3], "b": []}, "x, points", "pairs").svg
    assert scatter("s", "T", "C", [(1.0, 1.0)] * 3, "x, characters", "y, points").svg
    assert curves("c", "T", "C", {"a": [(1.0, 0.0)]}, "x, number", "y, nats", logarithmic=True).svg
