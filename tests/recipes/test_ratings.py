"""The command `ratings`: a table of systems, their difference and the raters' agreement, and files that are none."""

import json

import pytest
from micro import cli

from reward_distiller.files import write_rows


def test_systems_are_compared_and_raters_agree(tmp_path):
    rows = [
        {"response": f"{system}-{prompt}", "system": system, "prompt": str(prompt), "rater": rater, "score": score}
        for prompt, scores in enumerate([(4, 2), (5, 3), (3, 1)])
        for system, score in zip(("ours", "theirs"), scores, strict=True)
        for rater in ("a", "b")
    ]
    write_rows(tmp_path / "ratings.jsonl", rows)
    shown = cli("ratings", str(tmp_path / "ratings.jsonl"), "--output", str(tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["systems"]["ours"]["value"] == 4
    assert results["difference"] == {"systems": ["ours", "theirs"], "value": 2.0, "low": 2.0, "high": 2.0, "n": 3}
    assert results["agreement"]["alpha_ordinal"]["value"] == 1
    assert (tmp_path / "out" / "table.md").read_text() in shown.stdout
    assert "ours − theirs: 2.00 [2.00, 2.00] over 3 prompts" in shown.stdout


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": "r", "system": "s", "rater": "a", "score": 6}, "row 1, field 'score': 6 is not a score"),
        ({"id": "r", "system": "s", "scores": {"a": None}}, "no response has a score"),
    ],
)
def test_what_is_no_rating_is_an_error_that_names_it(tmp_path, row, message):
    write_rows(tmp_path / "ratings.jsonl", [row])
    shown = cli("ratings", str(tmp_path / "ratings.jsonl"), "--output", str(tmp_path / "out"))
    assert shown.returncode == 3
    assert message in shown.stderr
    assert not (tmp_path / "out").exists()
