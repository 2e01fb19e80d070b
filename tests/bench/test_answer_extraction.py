"""Why our answers and recorded grading differ, told from the text and both answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.answer_extraction import Graded, cause
from reward_distiller.answers import answer_format

LETTER = Graded("mmlu_pro", "1", "m", "C", None, False, "C", True, "The closest option is (C)")
NUMBER = Graded("gsm8k", "1", "m", "1,200", ["1200"], False, "1200", True, r"\boxed{1200}")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (LETTER, "they find no answer"),
        (replace(LETTER, recorded="A", text="The answer is (A).\nThe answer is (C)."), "several statements"),
        (replace(LETTER, recorded="A", text="A or so. The answer is (C)."), "other"),
        (replace(LETTER, recorded="A", answer=None, text="The answer is (A) or (B)."), "several answers"),
        (replace(LETTER, recorded="A", answer=None, text="I cannot tell. A"), "no final statement"),
        (NUMBER, "the same answer"),
        (replace(NUMBER, recorded="4", text="#### 4 boxes, so #### 1200"), "several statements"),
        (replace(NUMBER, recorded="12", answer="23/2", text="The answer is 11.5"), "they round"),
        (replace(NUMBER, recorded=[]), "they find no answer"),
    ],
)
def test_the_cause_of_an_exception(row, why):
    assert cause(row, answer_format("choice" if row.data == "mmlu_pro" else "number")).startswith(why)
