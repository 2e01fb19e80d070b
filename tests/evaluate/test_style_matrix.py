"""The 3 x 3 matrix of styles by hand."""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.evaluate.style_matrix import StyleItem, style_accuracy
from reward_distiller.records import Prompt


def item(name: str) -> StyleItem:
    styles = ("plain", "longer style", "the most ornate style")
    chosen = tuple(f"{name} right {s}" for s in styles)
    return StyleItem(Prompt.from_text(name), chosen, tuple(f"{name} wrong {s}" for s in styles))


def values_of(rewards: dict[str, list[float]]):  # type: ignore[no-untyped-def]
    """A scorer that gives each prompt's six responses, chosen first, these rewards."""

    def score(rows: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        assert all(len(texts) == 6 for _, texts in rows)
        return [rewards[prompt.messages[-1].content] for prompt, _ in rows]

    return score


def test_by_hand() -> None:
    # chosen (plain, middle, ornate) = 3, 5, 6 against rejected 2, 4, 7. Rows are chosen styles:
    #   3 > 2 yes | 3 > 4 no  | 3 > 7 no      hard (upper right): no, no, no      = 0
    #   5 > 2 yes | 5 > 4 yes | 5 > 7 no      normal (diagonal):  yes, yes, no    = 2/3
    #   6 > 2 yes | 6 > 4 yes | 6 > 7 no      easy (lower left):  yes, yes, yes   = 1
    figures = style_accuracy([item("one")], values_of({"one": [3, 5, 6, 2, 4, 7]}))
    assert figures["hard"].value == 0.0
    assert figures["normal"].value == 66.667
    assert figures["easy"].value == 100.0
    assert figures["average"].value == 55.556


def test_hard_is_the_plain_right_answer_against_the_ornate_wrong_one() -> None:
    # Only the plain chosen response wins, and against the ornate rejected one alone: one cell of hard's three.
    figures = style_accuracy([item("one")], values_of({"one": [5, 0, 0, 9, 9, 1]}))
    assert {name: f.value for name, f in figures.items()} == {
        "easy": 0.0,
        "normal": 0.0,
        "hard": 33.333,
        "average": 11.111,
    }


def test_ties_are_losses() -> None:
    figures = style_accuracy([item("one")], values_of({"one": [1.0] * 6}))
    assert all(f.value == 0.0 for f in figures.values())


def test_length_alone_gets_easy_right_and_hard_wrong() -> None:
    def length(rows: Sequence[tuple[Prompt, Sequence[str]]]) -> list[list[float]]:
        return [[float(len(text)) for text in texts] for _, texts in rows]

    figures = style_accuracy([item(f"{i:03}") for i in range(20)], length)
    assert {name: f.value for name, f in figures.items()} == {
        "easy": 100.0,
        "normal": 0.0,  # of one style both have one length here, and a tie is a loss
        "hard": 0.0,
        "average": 33.333,
    }


def test_intervals_are_over_prompts() -> None:
    right, wrong = [2.0] * 3 + [1.0] * 3, [1.0] * 3 + [2.0] * 3
    rewards = {f"{i:03}": right if i % 4 else wrong for i in range(80)}
    figures = style_accuracy([item(name) for name in rewards], values_of(rewards))
    for figure in figures.values():
        assert figure.n == 80
        assert figure.value == 75.0
        assert figure.low < 75.0 < figure.high
