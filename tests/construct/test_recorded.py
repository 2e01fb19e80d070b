"""Recorded judgements: a small folder built here, and the real one where it is at hand."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reward_distiller.construct.load import load_pairs
from reward_distiller.construct.recorded import REFERENCE, alpaca_eval_pairs
from reward_distiller.errors import ConfigError, DataError

Rows = dict[str, list[dict[str, Any]]]
REAL = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / "alpaca_eval"
needs_data = pytest.mark.skipif(
    not (REAL / REFERENCE).is_file(), reason=f"{REAL} is not here; set REWARD_DISTILLER_DATA to the data folder"
)


def small(**preferences: list[float]) -> Rows:
    """A reference of three instructions, and models with these preferences, in another order than the reference."""
    count = 3
    rows: Rows = {
        REFERENCE: [{"idx": i, "instruction": f"Ask {i}", "output": f"GPT-4 says {i}"} for i in range(count)],
    }
    for model, values in preferences.items():
        judged = [
            {"idx": i, "generator": model, "output": f"{model} says {i}", "preference": p} for i, p in enumerate(values)
        ]
        rows[f"annotations/{model}.jsonl.gz"] = judged[::-1]
    return rows


def write(folder: Path, rows: Rows) -> Path:
    for name, lines in rows.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return folder


def test_rows_are_joined_by_idx(tmp_path: Path) -> None:
    folder = write(tmp_path, small(good=[2.0, 1.5, 1.25], bad=[1.0, 1.25, 1.5]))
    rows, balance = alpaca_eval_pairs(folder, 1, 0)
    assert [r["prompt"] for r in rows] == ["Ask 0", "Ask 1", "Ask 2"]
    assert [r["chosen"] for r in rows] == ["good says 0", "good says 1", "bad says 2"]
    assert [r["rejected"] for r in rows] == ["bad says 0", "bad says 1", "good says 2"]
    assert [r["chosen_model"] for r in rows] == ["good", "good", "bad"]
    assert [(r["chosen_score"], r["rejected_score"]) for r in rows] == [(10, 1), (5.5, 3.25), (5.5, 3.25)]
    assert [r["teacher_response"] for r in rows] == ["GPT-4 says 0", "GPT-4 says 1", "GPT-4 says 2"]
    assert [r["provenance"] for r in rows] == [{"alpaca_eval_idx": i} for i in range(3)]
    assert balance.kept == balance.total == 3


def test_ties_and_useless_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = small(a=[1.5, 1.5, 1.5], b=[1.5, 1.2, 1.2])
    rows["annotations/b.jsonl.gz"][1]["output"] = " "  # idx 1
    rows["annotations/b.jsonl.gz"][0]["output"] = "a says 2"  # idx 2
    pairs, balance = alpaca_eval_pairs(write(tmp_path, rows), 1, 0)
    assert pairs == []
    assert balance.counts == {"tied": 1, "dropped": 2}
    assert balance.reasons["dropped"] == {"empty response": 1, "equal responses": 1}


def test_a_pair_of_texts_is_taken_once(tmp_path: Path) -> None:
    rows = small(a=[1.5] * 3, b=[1.2] * 3, c=[1.6] * 3, d=[1.1] * 3)
    for name in "abcd":
        for row in rows[f"annotations/{name}.jsonl.gz"]:
            row["output"] = "yes" if name in "ac" else "no"
    pairs, balance = alpaca_eval_pairs(write(tmp_path, rows), 2, 0)
    assert balance.total == 6
    assert len(pairs) == len({p["prompt"] for p in pairs})
    assert balance.counts["dropped"] == 6 - len(pairs) > 0


def test_the_null_model_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, small(a=[1.5] * 3, b=[1.4] * 3, NullModel=[2.0] * 3))
    rows, _ = alpaca_eval_pairs(folder, 1, 0)
    assert {m for r in rows for m in (r["chosen_model"], r["rejected_model"])} == {"a", "b"}


def test_a_draw_depends_on_seed_and_instruction_alone(tmp_path: Path) -> None:
    models = {name: [1 + i / 10] * 3 for i, name in enumerate("abcdef")}
    whole = small(**models)
    fewer = {name: [row for row in rows if row["idx"] != 0] for name, rows in whole.items()}
    moved = {name: [{**row, "idx": row["idx"] + 7} for row in rows] for name, rows in fewer.items()}

    def drawn(folder: Path, rows: Rows, seed: int) -> dict[str, list[tuple[str, str]]]:
        pairs: dict[str, list[tuple[str, str]]] = {}
        for row in alpaca_eval_pairs(write(folder, rows), 3, seed)[0]:
            pairs.setdefault(row["prompt"], []).append((row["chosen_model"], row["rejected_model"]))
        return pairs

    first = drawn(tmp_path / "whole", whole, 0)
    assert all(sorted(m for pair in pairs for m in pair) == list("abcdef") for pairs in first.values())
    assert drawn(tmp_path / "again", whole, 0) == first
    assert drawn(tmp_path / "moved", moved, 0) == {k: v for k, v in first.items() if k != "Ask 0"}
    assert any(drawn(tmp_path / f"seed-{s}", whole, s) != first for s in (1, 2))


def _drop(field: str) -> Any:
    return lambda rows: rows["annotations/a.jsonl.gz"][1].pop(field)


def _set(field: str, value: Any) -> Any:
    return lambda rows: rows["annotations/a.jsonl.gz"][1].update({field: value})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_drop("preference"), ["a.jsonl.gz, row 2, field 'preference'", "missing"]),
        (_drop("idx"), ["a.jsonl.gz, row 2, field 'idx'", "missing"]),
        (_drop("output"), ["a.jsonl.gz, row 2, field 'output'", "missing"]),
        (_set("preference", 2.5), ["a.jsonl.gz, row 2, field 'preference'", "2.5 is not a preference"]),
        (_set("preference", float("nan")), ["a.jsonl.gz, row 2, field 'preference'", "nan is not a preference"]),
        (_set("output", 7), ["a.jsonl.gz, row 2, field 'output'", "7 is not text"]),
        (_set("idx", 0), ["a.jsonl.gz, row 3, field 'idx'", "0 is in row 2 too"]),
        (_set("idx", "1"), ["a.jsonl.gz, row 2, field 'idx'", "'1' is not a whole number"]),
        (_set("idx", 9), ["a.jsonl.gz, row 2, field 'idx'", "9 is not in reference"]),
        (_set("generator", "b"), ["a.jsonl.gz", "field 'generator'", "2 models in a file"]),
        (
            lambda rows: rows["annotations/a.jsonl.gz"].pop(1),
            ["a.jsonl.gz, field 'idx'", "no row for 1, which is row 2"],
        ),
        (lambda rows: rows[REFERENCE][2].pop("instruction"), [f"{REFERENCE}, row 3, field 'instruction'", "missing"]),
        (lambda rows: rows[REFERENCE][2].update(idx=0), [f"{REFERENCE}, row 3, field 'idx'", "0 is in row 1 too"]),
        (lambda rows: rows.pop(REFERENCE), [REFERENCE, "no such file"]),
        (
            lambda rows: rows.update({"annotations/copy.jsonl.gz": rows["annotations/a.jsonl.gz"]}),
            ["copy.jsonl.gz, field 'generator'", "'a' is in a.jsonl.gz too"],
        ),
    ],
)
def test_bad_input_is_named(tmp_path: Path, spoil: Any, said: list[str]) -> None:
    rows = small(a=[1.5, 1.5, 1.5], b=[1.2, 1.2, 1.2])
    spoil(rows)
    with pytest.raises(DataError) as caught:
        alpaca_eval_pairs(write(tmp_path, rows), 1, 0)
    for part in said:
        assert part in str(caught.value)


def test_missing_annotations_and_impossible_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no annotations"):
        alpaca_eval_pairs(write(tmp_path / "bare", small()), 1, 0)
    folder = write(tmp_path / "two", small(a=[1.5] * 3, b=[1.2] * 3))
    for number in (0, 2):
        with pytest.raises(ConfigError, match="not between 1 and 1"):
            alpaca_eval_pairs(folder, number, 0)


@needs_data
def test_the_real_data() -> None:
    rows, balance = alpaca_eval_pairs(REAL, 4, 0)
    assert balance.total == 805 * 4
    assert balance.kept == len(rows) == balance.total - balance.counts["tied"] - balance.counts["dropped"]
    assert len(rows) > 3100
    assert max(Counter(r["prompt"] for r in rows).values()) == 4
    assert len({(r["prompt"], r["chosen"], r["rejected"]) for r in rows}) == len(rows)
    assert all(r["chosen_score"] > r["rejected_score"] for r in rows)
    assert all(1 <= r[f] <= 10 for r in rows for f in ("chosen_score", "rejected_score"))
    models = {m for r in rows for m in (r["chosen_model"], r["rejected_model"])}
    assert len(models) == 15
    assert "NullModel" not in models
    for instruction in {r["prompt"] for r in rows[:400]}:
        drawn = [m for r in rows if r["prompt"] == instruction for m in (r["chosen_model"], r["rejected_model"])]
        assert len(set(drawn)) == len(drawn)
    longer = sum(len(r["chosen"]) > len(r["rejected"]) for r in rows) / len(rows)
    assert 0.70 < longer < 0.82
    assert alpaca_eval_pairs(REAL, 4, 0)[0] == rows
    assert alpaca_eval_pairs(REAL, 4, 1)[0] != rows


@needs_data
def test_the_real_rows_load_as_scored_pairs() -> None:
    rows, _ = alpaca_eval_pairs(REAL, 2, 0)
    pairs, balance = load_pairs("pairs", enumerate(rows, 1), {}, scored=True)
    assert balance.kept == len(pairs) == len(rows)
    assert all(p.margin is not None and p.margin > 0 and p.teacher_response for p in pairs)
    assert {"alpaca_eval_idx", "chosen_model", "rejected_model"} == set(pairs[0].provenance)
