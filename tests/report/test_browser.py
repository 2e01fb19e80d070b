"""The pair browser in headless Chromium: found, sorted, read side by side, with the mouse and with the keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser_folder import HOSTILE, LINE, pair, run_folder
from chromium import PHONE, accessibility_problems, visiting

from reward_distiller.report.browser import browser
from reward_distiller.report.page import page, write_report
from reward_distiller.report.run import Run

CHOSEN = "The cat sat on the red mat."
REJECTED = "The cat sat on a mat."
OPTION = "#pair-browser [role=option]"


def written(folder: Path, target: Path) -> Path:
    """A page with this section alone."""
    section = browser(folder)
    assert section is not None
    target.write_text(page(Run(folder), [section]), "utf-8")
    return target


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pairs: the refined one is where the model disagrees most; pair 7 has no rewards."""
    folder = tmp_path_factory.mktemp("few")
    pairs = [pair(0, "refined", CHOSEN, REJECTED, diagnosis="It names no colour.", prompt="Where is the cat?")]
    rewards: dict[str, Any] = {"pair0": (0.0, 3.0)}
    for at in range(1, 30):
        chosen, rejected = f"A good answer, number {at}. " + "so " * at, f"A bad one, {at}."
        pairs.append(pair(at, "sampled", chosen, rejected, scores=(5.0 + at / 10, 4.0)))
        if at != 7:
            rewards[f"pair{at}"] = (1.0 + at / 100, 0.0)
    made = run_folder(folder / "run", pairs, rewards, tokens=("pair0",))
    return written(made, folder / "few.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    rows = [
        pair(
            0, "refined", f"better {HOSTILE}", HOSTILE, prompt=HOSTILE, diagnosis=HOSTILE, critique=HOSTILE, id=HOSTILE
        ),
        pair(1, "refined", f"{LINE} x", LINE),
        pair(2, HOSTILE, "\x00" * 50_000 + "\u202e" * 50_000, "", prompt=""),
        pair(3, "refined", "\u0645\u0631\u062d\u0628\u0627 \u202e abc", "\u0645\u0631\u062d\u0628\u0627"),
    ]
    rows[0]["provenance"]["chosen_model"] = HOSTILE
    made = run_folder(folder / "run", rows, {row["id"]: (1.0, at) for at, row in enumerate(rows)}, tokens=(HOSTILE,))
    return write_report(made, folder / "hostile.html")


def ready(visit: Any) -> Any:
    visit.page.wait_for_selector("#pair-browser[data-ready]")
    return visit.page


def status(visit: Any, said: str) -> None:
    """Wait until the list says so."""
    visit.page.wait_for_function(
        "said => document.querySelector('[data-part=status]').textContent === said", arg=said, timeout=5000
    )


def clean(visit: Any) -> None:
    assert not visit.errors
    assert not visit.network
    assert visit.sideways <= 0
    assert visit.page.title() != "ran"
    assert visit.page.locator("#pair-browser script, #pair-browser img, #pair-browser textarea").count() == 0


def test_a_run_without_pairs_or_that_wants_none_has_no_browser(tmp_path: Path) -> None:
    made = run_folder(tmp_path, [pair(0, "sampled", "a", "b")])
    assert browser(made) is not None
    with (made / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("report: {pairs: 0}\n")
    assert browser(made) is None
    (made / "config.yaml").unlink()
    (made / "pairs.jsonl").unlink()
    assert browser(made) is None


def test_it_opens_with_the_pair_that_is_disagreed_on_most(chromium: Any, few: Path) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        assert shown.locator(OPTION).count() == 10
        assert shown.locator("#pair-title").inner_text() == "Pair 1 of 30: refined"
        said = shown.locator("[data-part=one]").inner_text()
        for text in ("It names no colour.", "chosen 7.0, rejected 4.0, margin +3.0", "chosen 0.00, rejected 3.00"):
            assert text in said
        assert shown.locator("[data-part=sides] del").all_inner_texts() == ["a"]
        assert shown.locator("[data-part=sides] ins").all_inner_texts() == ["the red"]
        clean(visit)


@pytest.mark.parametrize("dark", [False, True])
def test_it_has_labels_and_contrast_and_fits_a_phone(chromium: Any, few: Path, dark: bool) -> None:
    for size in ({}, {"size": PHONE}):
        with visiting(chromium, few, dark=dark, **size) as visit:
            shown = ready(visit)
            shown.get_by_text("Ranges").click()
            for view in ("tokens", "plain", "edits"):
                shown.locator(f"[name=pair-view][value={view}]").check()
                assert not accessibility_problems(shown)
                clean(visit)
            sides = [box.bounding_box() for box in shown.locator("[data-part=sides] > div").all()]
            assert (sides[0]["x"] == sides[1]["x"]) == bool(size)  # columns stack on a phone


def test_filters_work_by_click(chromium: Any, few: Path) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        shown.get_by_label("Source").select_option(label="refined (1)")
        status(visit, "1 of 30 pairs")
        shown.get_by_role("button", name="Reset").click()
        status(visit, "30 of 30 pairs")
        shown.get_by_label("Used for").select_option(label="held out (8)")
        status(visit, "8 of 30 pairs")
        shown.get_by_role("button", name="Reset").click()
        side = shown.get_by_label("The reward model prefers")
        for choice, count in (("rejected", 1), ("chosen", 28), ("none", 1)):
            side.select_option(choice)
            status(visit, f"{count} of 30 pairs")
        shown.get_by_role("button", name="Reset").click()
        shown.get_by_label("only pairs with values").check()
        status(visit, "1 of 30 pairs")
        shown.get_by_role("button", name="Reset").click()
        shown.get_by_text("Ranges").click()
        shown.get_by_role("group", name="Teacher's margin").get_by_label("from").fill("3.45")
        status(visit, "5 of 30 pairs")
        shown.get_by_role("group", name="Chosen less rejected").get_by_label("to").fill("90")
        status(visit, "2 of 30 pairs")
        clean(visit)


@pytest.mark.parametrize(
    ("name", "low", "high", "count"),
    [("teacher", 3.45, None, 5), ("model", None, 0, 1), ("disagreement", 2.5, None, 1), ("length", 50, 60, 4)],
)
def test_ranges_keep_what_is_within_both_ends(
    chromium: Any, few: Path, name: str, low: float | None, high: float | None, count: int
) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        shown.get_by_text("Ranges").click()
        for end, value in (("low", low), ("high", high)):
            if value is not None:
                shown.locator(f"[data-{end}={name}]").fill(str(value))
        status(visit, f"{count} of 30 pairs")


def test_the_search_reads_every_text_of_a_pair(chromium: Any, few: Path) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        box = shown.get_by_label("Search")
        for query, count in (("NO COLOUR", 1), ("number 1", 11), ("question 2", 11), ("bad one, 29", 1), ("pair3", 1)):
            box.fill(query)
            status(visit, f"{count} of 30 pairs")
        box.fill("nowhere")
        status(visit, "None of 30 pairs")
        assert shown.locator("[data-part=one]").is_hidden()
        box.fill("")
        status(visit, "30 of 30 pairs")
        clean(visit)


@pytest.mark.parametrize(
    ("label", "first"),
    [
        ("order of the run", "refined"),
        ("teacher's margin, smallest first", "teacher +1.1"),
        ("reward model's margin, largest first", "model +1.29"),
        ("reward model's margin, smallest first", "model −3.00"),
        ("length, chosen longer first", "teacher +3.9"),
        ("length, rejected longer first", "refined"),
    ],
)
def test_pairs_are_sorted(chromium: Any, few: Path, label: str, first: str) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        shown.get_by_label("Sort by").select_option(label=label)
        assert first in shown.locator(OPTION).first.inner_text()


def test_all_of_it_works_from_the_keyboard(chromium: Any, few: Path) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        keys, title = shown.keyboard, shown.locator("#pair-title")

        def says(text: str) -> None:
            shown.wait_for_function(
                "said => document.querySelector('#pair-title').textContent.startsWith(said)", arg=text, timeout=5000
            )

        shown.get_by_label("Search").focus()
        keys.type("answer")
        status(visit, "29 of 30 pairs")
        keys.press("Control+A")
        keys.press("Delete")
        status(visit, "30 of 30 pairs")
        keys.press("Tab")
        keys.press("ArrowDown")  # the source: refined
        status(visit, "1 of 30 pairs")
        keys.press("ArrowUp")
        status(visit, "30 of 30 pairs")
        while shown.evaluate("document.activeElement.getAttribute('role')") != "listbox":
            keys.press("Tab")
        for key, says_ in (
            ("ArrowDown", "Pair 2 of"),
            ("PageDown", "Pair 11 of"),
            ("PageDown", "Pair 21 of"),
            ("PageDown", "Pair 21 of"),  # there is no further page
            ("End", "Pair 30 of"),
            ("ArrowDown", "Pair 30 of"),
            ("PageUp", "Pair 11 of"),
            ("ArrowUp", "Pair 10 of"),
            ("Home", "Pair 1 of"),
        ):
            keys.press(key)
            says(says_)
            chosen = shown.locator("[aria-selected=true]").get_attribute("id")
            assert chosen == shown.get_by_role("listbox").get_attribute("aria-activedescendant")
        assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        keys.press("Enter")
        assert shown.evaluate("document.activeElement.dataset.part") == "one"
        keys.press("Tab")
        keys.press("ArrowDown")  # the second view
        slider = shown.get_by_label("Read the rejected response token by token")
        slider.focus()
        keys.press("ArrowRight")
        assert 'Token 2 of 21 "h": value 0.03, move +0.02' in slider.locator("xpath=../..").inner_text()
        assert title.inner_text().startswith("Pair 1 of")
        clean(visit)


def test_values_token_by_token_have_numbers_a_legend_and_more_than_colour(chromium: Any, few: Path) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        shown.get_by_label("with the reward model's values").check()
        assert "down −0.27 up +0.27" in " ".join(shown.locator(".pairs-scale").inner_text().split())
        tokens = shown.locator("[data-part=sides] > div").nth(1).locator("[data-token]")
        assert "".join(tokens.all_text_contents()) == CHOSEN
        tokens.nth(26).hover()
        assert 'Token 27 of 27 ".": value 1.08, move −0.27' in shown.locator("output").nth(1).inner_text()
        large = tokens.nth(26)
        assert "dotted" in large.evaluate("e => getComputedStyle(e).textDecorationStyle")
        moves = shown.locator("[data-part=sides] > div").nth(1).locator("ol li").all_inner_texts()
        assert moves[0] == '"." −0.27, to 1.08'
        shown.locator("#pair-browser [data-step='1']").click()
        shown.wait_for_function("document.querySelector('#pair-title').textContent.startsWith('Pair 2')")
        assert "kept for the most telling pairs only" in shown.locator("[data-part=view-note]").inner_text()
        clean(visit)


def test_pages_are_turned_by_click(chromium: Any, few: Path) -> None:
    with visiting(chromium, few) as visit:
        shown = ready(visit)
        pages = shown.get_by_role("group", name="Pages of the list")
        for button, said in (
            ("Next", "Page 2 of 3"),
            ("Last", "Page 3 of 3"),
            ("Previous", "Page 2 of 3"),
            ("First", "Page 1 of 3"),
        ):
            pages.get_by_role("button", name=button).click()
            assert shown.locator("[data-part=page]").inner_text() == said
        shown.locator(OPTION).nth(4).click()
        assert shown.locator("#pair-title").inner_text().startswith("Pair 5 of")


@pytest.mark.parametrize("size", [{}, {"size": PHONE}])
def test_hostile_text_is_text(chromium: Any, hostile: Path, size: dict[str, Any]) -> None:
    with visiting(chromium, hostile, **size) as visit:
        shown = ready(visit)
        shown.get_by_label("Sort by").select_option(label="order of the run")
        one = shown.locator("[data-part=one]")
        for view in ("plain", "edits", "tokens"):
            shown.locator(f"[name=pair-view][value={view}]").check()
            said = one.inner_text()
            assert "</script></textarea><img src=x onerror=\"document.title='ran'\">{{ 7 * 7 }} &lt;b&gt;" in said
            for seen in ("U+202E", "U+0000", "U+001B", "U+D800", "U+200B"):
                assert seen in said
            assert not set("\u202e\x00\x1b\u200b") & set(said)
            clean(visit)
        for place in range(4):
            shown.locator(OPTION).nth(place).click()
            shown.wait_for_function(
                "n => document.querySelector('#pair-title').textContent.startsWith(`Pair ${n} of`)", arg=place + 1
            )
            clean(visit)
        assert "U+0000 ×8000" not in one.inner_text()
        shown.locator(OPTION).nth(2).click()
        shown.wait_for_function("document.querySelector('#pair-title').textContent.startsWith('Pair 3 of')")
        assert "U+0000 ×" in one.inner_text()
        assert not accessibility_problems(shown)


def test_a_line_of_a_megabyte_is_clipped_and_shown_on_request_without_freezing(chromium: Any, hostile: Path) -> None:
    with visiting(chromium, hostile) as visit:
        shown = ready(visit)
        shown.get_by_label("Sort by").select_option(label="order of the run")
        shown.get_by_role("listbox").press("ArrowDown")
        button = shown.get_by_role("button", name="Show all").first
        assert "1,000,01" in button.inner_text()
        assert "the end" not in shown.locator("[data-part=one]").inner_text()
        took = shown.evaluate(
            """() => { const start = performance.now()
            document.querySelector('.pairs-more button').click()
            document.querySelector('[data-part=sides]').getBoundingClientRect()
            return performance.now() - start }"""
        )
        assert took < 5000
        assert "</b>the end" in shown.locator("[data-part=sides] > div").first.text_content()
        clean(visit)
