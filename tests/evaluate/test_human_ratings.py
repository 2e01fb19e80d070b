"""Krippendorff's own example, means and paired differences by hand, and rows that are no ratings."""

import math

import numpy as np
import pytest

from reward_distiller.errors import DataError
from reward_distiller.evaluate.human_ratings import krippendorff_alpha, load, read, summarize
from reward_distiller.files import write_rows
from reward_distiller.rows import Fields

NAN = math.nan
# Krippendorff (2011), section C: four observers, twelve units, missing values.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T


def rated(*rows):
    return read([Fields("made_up.jsonl", number, row, {}) for number, row in enumerate(rows, 1)])


def long(response, rater, score, system="ours", **rest):
    return {"response": response, "system": system, "rater": rater, "score": score, **rest}


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_the_published_one(scale, alpha):
    assert krippendorff_alpha(PUBLISHED, scale) == pytest.approx(alpha, abs=5e-4)


def test_alpha_by_hand():
    # Units (1, 1) and (1, 2): coincidences 11: 2, 12 and 21: 1 each; totals 3 and 1, n = 4.
    # Observed 2/4, expected 2 * 3 * 1 / (4 * 3) = 1/2.
    two = np.array([[1.0, 1.0], [1.0, 2.0]])
    assert krippendorff_alpha(two, "interval") == pytest.approx(0)
    assert krippendorff_alpha(two, "nominal") == pytest.approx(0)
    assert krippendorff_alpha(np.array([[1.0, 1.0], [5.0, 5.0]]), "ordinal") == 1
    assert math.isnan(krippendorff_alpha(np.full((3, 2), 4.0), "ordinal"))
    lone = np.vstack([PUBLISHED, [[NAN, 1, NAN, NAN]]])  # one rater alone agrees with nobody
    assert krippendorff_alpha(lone, "interval") == pytest.approx(krippendorff_alpha(PUBLISHED, "interval"))


def test_wide_and_long_rows_say_the_same():
    wide = rated(
        {"id": 7, "system": "ours", "prompt": "q", "scores": {"ann": 4, "bob": 2.0, "eve": None}},
        {"id": "8", "system": "theirs", "prompt": "q", "scores": {"ann": 1}},
    )
    assert wide == rated(
        long(7, "ann", 4, prompt="q"), long("8", "ann", 1, system="theirs", prompt="q"), long(7, "bob", 2, prompt="q")
    )
    assert wide[0].scores == {"ann": 4, "bob": 2}


def test_means_and_the_paired_difference_by_hand():
    rows = []
    for at, (ours, theirs) in enumerate([((5, 4), (3, 3)), ((4, 4), (4, 2)), ((2, 1), (1, 1))]):
        for system, scores in (("ours", ours), ("theirs", theirs)):
            rows += [
                long(f"{system}{at}", rater, s, system, prompt=f"q{at}") for rater, s in zip("ab", scores, strict=True)
            ]
    rows.append(long("theirs9", "a", 5, "theirs", prompt="q9"))  # a prompt that only one system answered
    found = summarize(rated(*rows))
    assert list(found.systems) == ["ours", "theirs"]
    assert found.systems["ours"].value == pytest.approx((4.5 + 4 + 1.5) / 3)
    assert found.systems["theirs"].value == pytest.approx((3 + 3 + 1 + 5) / 4)
    assert found.systems["ours"].low < found.systems["ours"].value < found.systems["ours"].high
    assert found.difference.systems == ("ours", "theirs")
    assert found.difference.estimate.value == pytest.approx((1.5 + 1 + 0.5) / 3)
    assert (found.difference.estimate.n, found.difference.estimate.low > 0) == (3, True)
    assert (found.raters, found.scores) == (("a", "b"), 13)


def test_without_prompts_nothing_is_paired_and_one_rater_agrees_with_nobody():
    found = summarize(rated(long(1, "a", 3), long(2, "a", 4, "theirs")))
    assert found.difference is None
    assert found.agreement is None
    alone = summarize(rated(long(1, "a", 3), long(2, "b", 4)))
    assert alone.agreement is None
    with pytest.raises(ValueError, match="no response"):
        summarize([])


def test_agreement_of_raters_who_agree_and_of_raters_who_do_not():
    rng = np.random.default_rng(0)
    quality = rng.integers(1, 6, 200)
    alike = [long(at, rater, int(q)) for at, q in enumerate(quality) for rater in "abc"]
    same = summarize(rated(*alike), resamples=100).agreement
    assert (same.alpha_ordinal.value, same.alpha_interval.value) == (1, 1)
    assert same.spearman.value == pytest.approx(1)
    chance = [long(at, rater, int(rng.integers(1, 6))) for at in range(200) for rater in "abc"]
    found = summarize(rated(*chance), resamples=100).agreement
    assert found.alpha_ordinal.low < 0 < found.alpha_ordinal.high
    assert abs(found.spearman.value) < 0.1
    upside_down = [long(at, "d", int(6 - q)) for at, q in enumerate(quality)] + alike[::3]
    assert summarize(rated(*upside_down), resamples=20).agreement.spearman.value == pytest.approx(-1)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (long(1, "b", 6), "row 2, field 'score': 6 is not a score"),
        (long(1, "b", 3.5), "row 2, field 'score': 3.5 is not a score"),
        (long(1, "b", True), "row 2, field 'score': True is not a score"),
        (long(1, "b", None), "row 2, field 'score': missing"),
        (long(1, "a", 3), "row 2, field 'score': 'a' scored '1' before"),
        (long(1, "b", 3, "theirs"), "row 2, field 'system': 'theirs' here, 'ours' before"),
        (long(1, "b", 3, prompt="q"), "row 2, field 'prompt'"),
        (long(1, "", 3), "row 2, field 'rater': '' is not a name"),
        ({"system": "ours", "rater": "b", "score": 3}, "row 2, field 'response': missing"),
        ({"id": 2, "system": "ours", "scores": [3, 4]}, "row 2, field 'scores'"),
        ({"id": 2, "system": "ours", "scores": {"b": "good"}}, "row 2, field 'scores.b': 'good' is not a score"),
    ],
)
def test_a_bad_row_is_named(row, said):
    with pytest.raises(DataError, match=said):
        rated(long(1, "a", 3), row)


def test_a_file_is_read(tmp_path):
    write_rows(tmp_path / "ratings.jsonl", [long(1, "a", 3), long(1, "b", 4)])
    assert summarize(load(tmp_path / "ratings.jsonl")).systems["ours"].value == 3.5
