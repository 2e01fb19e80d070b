"""Style correlations of rewards made of style, and edits: what they change, what they leave, what they flip."""

import math

import numpy as np
import pytest

from reward_distiller.evaluate import bias_audit
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.bias_audit import EDITS, FEATURES, flip_rates, style_correlations
from reward_distiller.records import Prompt

LIST = "Pick one of these:\n- red\n- green\n\nThat is all."


def example(at: int, *responses: str, right: int = 1) -> Example:
    return Example(str(at), Prompt.from_text(f"question {at}"), responses, right)


def styled(rng: np.random.Generator) -> str:
    heads = "".join(f"# h{i}\n" for i in range(rng.integers(0, 4)))
    items = "".join(f"- item {i}\n" for i in range(rng.integers(0, 5)))
    polite = "Please note. " * int(rng.integers(0, 3))
    return heads + items + polite + "**b** " * int(rng.integers(0, 4)) + "x" * int(rng.integers(1, 300))


def many(count: int = 300) -> list[Example]:
    rng = np.random.default_rng(0)
    return [example(at, styled(rng), styled(rng)) for at in range(count)]


def test_features_by_hand():
    text = "# Title\n\nThank you, certainly.\n\n1. **one**\n2. two\n- three\n```py\n# no heading?\n```\n"
    found = {name: count(text) for name, count in FEATURES.items()}
    assert found == {
        "length": len(text),
        "headings": 2,
        "list_items": 3,
        "bold": 1,
        "code_fences": 1,
        "politeness": 2,
    }


def test_a_reward_of_length_depends_on_length_and_on_nothing_else():
    examples = many()
    rng = np.random.default_rng(1)
    rewards = [[len(text) + rng.normal(0, 20) for text in e.responses] for e in examples]
    found = style_correlations(examples, rewards, resamples=200)
    assert found["length"].partial.value > 0.9
    for name in ("label", "headings", "list_items", "bold", "politeness"):
        assert abs(found[name].partial.value) < 0.2
        assert found[name].partial.low < 0 < found[name].partial.high
    assert math.isnan(found["code_fences"].partial.value)  # there are none
    assert found["code_fences"].differing == 0
    assert found["label"].differing == len(examples)


def test_a_reward_of_being_right_depends_on_the_label():
    examples = many()
    rng = np.random.default_rng(2)
    rewards = [[1 + rng.normal(0, 0.3), rng.normal(0, 0.3)] for _ in examples]
    found = style_correlations(examples, rewards, resamples=200)
    assert found["label"].partial.low > 0.8
    assert abs(found["length"].partial.value) < 0.2


def test_the_partial_correlation_is_that_of_least_squares_residuals():
    examples = many(80)
    rng = np.random.default_rng(3)
    rewards = [[0.01 * len(t) + t.count("#") + rng.normal() for t in e.responses] for e in examples]
    difference = {
        name: np.array([count(e.responses[0]) - count(e.responses[1]) for e in examples], dtype=float)
        for name, count in FEATURES.items()
    }
    margin = np.array([a - b for a, b in rewards])
    held = np.stack([np.ones(80), *(difference[name] for name in FEATURES if name != "headings")], axis=1)
    left = [y - held @ np.linalg.lstsq(held, y, rcond=None)[0] for y in (difference["headings"], margin)]
    expected = left[0] @ left[1] / math.sqrt((left[0] @ left[0]) * (left[1] @ left[1]))
    assert style_correlations(examples, rewards, resamples=2)["headings"].partial.value == pytest.approx(expected)


def test_ties_have_no_label_and_no_example_is_an_error():
    tied = [example(at, "x" * at, "y", right=2) for at in range(1, 9)]
    found = style_correlations(tied, [[float(at), 0.0] for at in range(1, 9)], resamples=20)
    assert math.isnan(found["label"].partial.value)
    assert found["length"].partial.value == pytest.approx(1, abs=0.3)
    with pytest.raises(ValueError, match="no examples"):
        style_correlations([], [])


@pytest.mark.parametrize(
    ("edit", "text", "expected"),
    [
        ("trailing_whitespace", "a", "a \n"),
        ("trailing_whitespace", " ", None),
        ("polite_opening", "Paris.", "Thank you for your question; I am happy to help.\n\nParis."),
        ("polite_opening", "Of course! Paris.", None),
        ("polite_opening", "", None),
        ("bold_first_sentence", "It is 3.5 m. Or so.", "**It is 3.5 m.** Or so."),
        ("bold_first_sentence", "# Title. Text.", None),
        ("bold_first_sentence", "- An item. Text.", None),
        ("bold_first_sentence", "A **bold** one. Text.", None),
        ("bold_first_sentence", "no sentence", None),
        ("bullets_to_lines", LIST, "Pick one of these:\nred\ngreen\n\nThat is all."),
        ("bullets_to_lines", "- one alone", None),
        ("bullets_to_lines", "- a\n  - b\n- c", None),
        ("bullets_to_lines", "1. a\n2. b", None),
        ("bullets_to_lines", "- **a**: x\n- **b**: y", "**a**: x\n**b**: y"),
        ("lines_to_bullets", "Pick one of these:\nred\ngreen\n\nThat is all.", LIST),
        ("lines_to_bullets", "Roses are red\nViolets are blue", None),
        ("lines_to_bullets", "One line:\nalone", None),
        ("lines_to_bullets", LIST, None),
        ("swapped_quotes", "\u201cYes\u201d, it\u2019s", '"Yes", it\'s'),
        ("swapped_quotes", '"Yes", it\'s', "\u201cYes\u201d, it\u2019s"),
        ("swapped_quotes", '6" wide', None),
        ("swapped_quotes", "plain", None),
        ("swapped_quotes", "```\nprint('a')\n```", None),
        ("swapped_quotes", 'import os\nprint("it\'s")', None),
        ("doubled_space", "two words", "two  words"),
        ("doubled_space", "word", None),
        ("doubled_space", "for (;;) {\n}", None),
        ("position", "a\n\nb\n\nc", "c\n\na\n\nb"),
        ("position", "a\n\nb", None),
        ("position", "a\n\n```\nb\n```\n\nc", None),
    ],
)
def test_an_edit_says_nothing_new(edit, text, expected):
    made = {**EDITS, **bias_audit.APART}[edit](text)
    assert made == expected
    assert made != text


def test_edits_are_pure_and_the_random_one_is_seeded():
    text = "one two three four five six seven eight"
    assert bias_audit.doubled_space(text) == bias_audit.doubled_space(text)
    assert len({bias_audit.doubled_space(text, seed) for seed in range(30)}) > 3
    for edit in EDITS.values():
        made = edit(text)
        assert made is None or made.replace("*", "").split()[-8:] == text.split()


def test_a_reward_that_reads_politeness_flips():
    examples = [example(at, "Right answer", "Wrong answer") for at in range(20)]

    def score(rows):
        return [[(2.0 if "Right" in t else 1.0) + 1.5 * ("Thank you" in t) for t in texts] for _, texts in rows]

    found = {(rate.edit, rate.side): rate for rate in flip_rates(examples, score, resamples=50)}
    assert found["polite_opening", "wrong"].flips.value == 1.0
    assert found["polite_opening", "right"].flips.value == 0.0
    assert found["trailing_whitespace", "wrong"].flips.value == 0.0
    assert found["position", "wrong"].flips is None
    assert (found["position", "wrong"].pairs, found["position", "wrong"].not_applicable) == (0, 20)
    assert math.isnan(found["polite_opening", "wrong"].shift.value)  # all margins are equal
    assert len(found) == 2 * 8


def test_the_shift_is_in_standard_deviations_and_an_equal_reward_is_a_loss():
    examples = [example(0, "aaaa", "b"), example(1, "aa", "b")]  # margins 3 and 1 by length: their deviation is 1

    def score(rows):
        return [[float(len(t)) for t in texts] for _, texts in rows]

    grow = {"grow": lambda text: text + "z" if text == "b" else None}
    wrong, right = flip_rates(examples, score, grow, resamples=50)
    assert wrong.shift.value == 1.0
    assert wrong.flips.value == 0.5
    assert (right.pairs, right.not_applicable, right.flips) == (0, 2, None)


def test_an_example_without_an_answer_is_left_out_and_counted():
    examples = [example(0, "aaa", "b"), example(1, "aa", "b", "c")]
    grow = {"grow": lambda text: text + "zzz"}
    first, _ = flip_rates(examples, lambda rows: [[3.0, 1.0, 6.0, 4.0], None], grow, resamples=5)
    assert (first.pairs, first.not_applicable, first.no_answer, first.flips.value) == (1, 0, 2, 1.0)
    none, _ = flip_rates(examples, lambda rows: [None, None], grow, resamples=5)
    assert none.as_dict() == {
        "edit": "grow",
        "side": "wrong",
        "flips": None,
        "shift": None,
        "pairs": 0,
        "not_applicable": 0,
        "no_answer": 3,
    }


def test_every_right_response_meets_every_wrong_one_and_texts_are_scored_once():
    asked = []

    def score(rows):
        asked.extend(texts for _, texts in rows)
        return [[float(len(t)) for t in texts] for _, texts in rows]

    examples = [example(0, "aaa", "aa", "b", "b", right=2), example(1, "a", "b", right=2)]
    found = flip_rates(examples, score, {"same": lambda text: text}, resamples=5)
    assert asked == [["aaa", "aa", "b"]]
    assert [(rate.pairs, rate.flips.value) for rate in found] == [(4, 0.0), (4, 0.0)]
    with pytest.raises(ValueError, match="could flip"):
        flip_rates(examples[1:], score)
