"""What of a run stands in the page: its size, its limits, its parts; and how fast 20,000 pairs are at hand."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from browser_folder import along, many, pair, run_folder, write_rows
from chromium import visiting

from reward_distiller.errors import DataError
from reward_distiller.report.browser import BUDGET, browser
from reward_distiller.report.browser_data import embed
from reward_distiller.report.browser_pairs import shown_pairs
from reward_distiller.report.page import page, write_report
from reward_distiller.report.run import Run

PAIRS = 20000
LARGEST = 25_000_000  # bytes of a page with all that lies beside it
USABLE = 10  # seconds; 2 is the goal, and what a machine takes that has nothing else to do is in docs/report.md


def opened(packed: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_each_text_stands_once_in_its_block(tmp_path: Path) -> None:
    shared = {"prompt": "the prompt", "prompt_id": "p"}
    rows = [pair(0, "sampled", "good", "bad", **shared), pair(1, "refined", "mended", "bad", diagnosis="why", **shared)]
    made = embed(shown_pairs(run_folder(tmp_path, rows)), BUDGET)
    (block,) = map(opened, made.blocks)
    assert sorted(block["texts"]) == ["bad", "good", "mended", "the prompt", "why"]
    assert [p["rejected"] for p in block["pairs"]] == [block["texts"].index("bad")] * 2
    index = opened(made.index)
    assert index["sizes"] == [2]
    assert index["columns"]["length"] == [1, 3]


def test_pieces_are_counted_in_the_units_of_the_page(tmp_path: Path) -> None:
    rows = [pair(0, "refined", "a\U0001f600\u05e9", "b")]
    made = embed(shown_pairs(run_folder(tmp_path, rows, {"pair0": (1.0, 0.0)}, tokens=("pair0",))), BUDGET)
    assert opened(made.blocks[0])["pairs"][0]["tokens"][0]["lengths"] == [1, 2, 1]


def test_values_of_another_text_are_left_out(tmp_path: Path) -> None:
    made = run_folder(tmp_path, [pair(0, "refined", "abc", "b")])
    write_rows(made / "token_values.jsonl", [{"id": "pair0", "chosen": along("abcd"), "rejected": along("b")}])
    assert shown_pairs(made)[0].tokens is None


def test_what_does_not_fit_is_left_out_where_it_is_agreed_on_and_counted(tmp_path: Path) -> None:
    rows, rewards = many(400)
    pairs = shown_pairs(run_folder(tmp_path, rows, rewards))
    whole = embed(pairs, BUDGET)
    half = embed(pairs, whole.size // 2)
    assert whole.pairs == 400
    assert whole.left_out == 0
    assert half.size <= whole.size // 2
    assert 100 < half.pairs < 300
    assert half.left_out == 400 - half.pairs
    kept = {p["id"] for block in half.blocks for p in opened(block)["pairs"]}
    most = max(pairs, key=lambda p: p.disagreement or 0.0)
    assert most.id in kept
    assert [p.id for p in pairs if p.id in kept] == [p["id"] for b in half.blocks for p in opened(b)["pairs"]]
    assert embed(pairs, 10).pairs >= 1


def test_the_page_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, rewards = many(40)
    made = run_folder(tmp_path, rows, rewards)
    monkeypatch.setattr("reward_distiller.report.browser.BUDGET", 20_000)
    section = browser(made)
    assert section is not None
    assert "more are in pairs.jsonl alone" in section.html
    (made / "pair_rewards.jsonl").unlink()
    section = browser(made)
    assert section is not None
    assert "kept no rewards" in section.html


def test_only_pairs_that_were_scored_are_shown(tmp_path: Path) -> None:
    made = run_folder(tmp_path, [pair(at, "sampled", "a", "b") for at in range(5)], {"pair1": (1.0, 0.0)})
    rows = (made / "pair_rewards.jsonl").read_text("utf-8").splitlines(keepends=True)
    (made / "pair_rewards.jsonl").write_text("".join(rows[1:3]), "utf-8")
    assert [p.id for p in shown_pairs(made)] == ["pair1", "pair2"]
    (made / "pair_rewards.jsonl").unlink()
    with (made / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("report: {pairs: 3}\n")
    assert len(shown_pairs(made)) == 3


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("pairs.jsonl", '{"id": "a", "prompt_id": "p", "prompt": []}\n', "chosen"),
        ("pairs.jsonl", '{"id": "a", "prompt_id": "p", "prompt": [1], "chosen": [], "rejected": []}\n', "row 1"),
        ("pairs.jsonl", "{\n", "not valid JSON"),
        ("pair_rewards.jsonl", '{"id": "a"}\n', "chosen"),
        ("config.yaml", "report: 3\n", "not the config of a run"),
    ],
)
def test_a_file_that_is_not_what_a_run_writes_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    made = run_folder(tmp_path, [pair(0, "sampled", "a", "b")])
    (made / name).write_text(text, "utf-8")
    with pytest.raises(DataError, match=said) as error:
        browser(made)
    assert name in str(error.value)


def test_the_same_run_makes_the_same_section(tmp_path: Path) -> None:
    made = run_folder(tmp_path, *many(50))
    assert browser(made) == browser(made)


def test_twenty_thousand_pairs_are_a_small_page_that_is_soon_usable(chromium: Any, tmp_path: Path) -> None:
    rows, rewards = many(PAIRS)
    tokens = tuple(row["id"] for row in rows[:500])
    made = run_folder(tmp_path / "run", rows, rewards, tokens)
    file = tmp_path / "pairs.html"
    section = browser(made)
    assert section is not None
    assert not section.files
    file.write_text(page(Run(made), [section]), "utf-8")
    size = file.stat().st_size
    assert size < LARGEST
    assert f"{PAIRS:,} pairs." in section.html
    with visiting(chromium, file) as visit:
        shown = visit.page
        shown.wait_for_selector("#pair-browser[data-ready]")
        usable = shown.evaluate("performance.getEntriesByName('pairs')[0].startTime / 1000")
        assert shown.locator("[role=option]").count() == 10
        done = "said => document.querySelector('[data-part=status]').textContent === said"
        start = shown.evaluate("performance.now()")
        shown.get_by_label("Source").select_option(label="refined (10,000)")
        shown.wait_for_function(done, arg="10,000 of 20,000 pairs")
        filtered = (shown.evaluate("performance.now()") - start) / 1000
        start = shown.evaluate("performance.now()")
        word = rows[-1]["chosen"][0]["content"]
        shown.get_by_label("Search").fill(word)
        shown.wait_for_function(done, arg="1 of 20,000 pairs", timeout=60_000)
        searched = (shown.evaluate("performance.now()") - start) / 1000
        print(
            f"{size / 1e6:.1f} MB, usable in {usable:.2f} s, filtered in {filtered:.2f} s, searched in {searched:.1f} s"
        )
        assert usable < USABLE
        assert filtered < USABLE
        assert not visit.errors
        assert not visit.network


def test_the_whole_report_holds_it(chromium: Any, tmp_path: Path) -> None:
    file = write_report(run_folder(tmp_path, *many(60)), tmp_path / "report.html")
    with visiting(chromium, file) as visit:
        visit.page.wait_for_selector("#pair-browser[data-ready]")
        assert not visit.errors
        assert not visit.network
        assert visit.page.get_by_role("link", name="Pairs").count() == 1
