"""What an evaluation says beside figures: calibration, bias audit, contamination; and who cannot be asked."""

import json
import os
from pathlib import Path

import pytest

from reward_distiller.errors import BenchmarkError, ConfigError
from reward_distiller.evaluate.answers import Comparisons, NoAnswer
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.trivial import Length
from reward_distiller.files import read_rows, write_rows
from reward_distiller.recipes.answering import load_all
from reward_distiller.recipes.audits import training_file_of, training_prompts
from reward_distiller.recipes.evaluation import evaluate

DATA = Path(os.environ.get("REWARD_DISTILLER_DATA") or "../shared/data")
needs_data = pytest.mark.skipif(not (DATA / "alpaca_eval").is_dir(), reason="needs the shared data: alpaca_eval")


class Short(Length):
    """By length, of what is not too long for it: edits make some so."""

    def answer(self, examples, advance):
        answers = super().answer(examples, advance)
        return [
            NoAnswer("too long") if max(map(len, e.responses)) > 60 else a
            for e, a in zip(examples, answers, strict=True)
        ]


class Judge(Length):
    def answer(self, examples, advance):
        return [Comparisons(((0, 1, 1.0),)) for _ in examples]


@pytest.fixture
def pairs(tmp_path):
    rows = [
        {"prompt": f"what is {n} plus {n} ?", "chosen": f"It is {2 * n}. Sure" + "!" * n, "rejected": f"It is {n}."}
        for n in range(1, 9)
    ]
    write_rows(tmp_path / "test.jsonl", rows)
    return load_all([(benchmark_named("pairs"), str(tmp_path / "test.jsonl"))])


def test_the_audit_finds_what_a_scorer_reads(pairs, tmp_path):
    results = evaluate(Length(), pairs, tmp_path / "out", bias_audit=True)
    audit = results["bias_audit"]["pairs"]
    assert audit["style"]["length"]["value"] == pytest.approx(1)
    edits = {(edit["edit"], edit["side"]): edit for edit in audit["edits"]}
    assert edits["polite_opening", "wrong"]["flips"]["value"] == 1
    assert edits["polite_opening", "right"]["flips"]["value"] == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert "| polite_opening | wrong | 1.000 [1.000, 1.000] |" in (tmp_path / "out" / "table.md").read_text()


def test_what_an_edit_makes_too_long_is_counted(pairs, tmp_path):
    audit = evaluate(Short(), pairs, tmp_path / "out", bias_audit=True)["bias_audit"]["pairs"]
    for edit in audit["edits"]:
        assert edit["pairs"] + edit["not_applicable"] + edit["no_answer"] == 8
    assert any(edit["no_answer"] for edit in audit["edits"])


def test_a_scorer_that_compares_has_no_audit(pairs, tmp_path):
    with pytest.raises(ConfigError, match="compares two by two"):
        evaluate(Judge(), pairs, tmp_path / "out", bias_audit=True)


def test_training_prompts_are_looked_for(pairs, tmp_path):
    rows = [{"prompt": text} for text in ("What is 3 plus 3?", "what is 3 plus 3 ?", "name a fruit", "name a fruit")]
    write_rows(tmp_path / "train.jsonl", rows)
    prompts = training_prompts(tmp_path / "train.jsonl")
    assert [name for name, _ in prompts] == ["row 1", "row 2", "row 3"]
    found = evaluate(Length(), pairs, tmp_path / "out", training=prompts)["contamination"]
    assert found["benchmarks"]["pairs"]["exact"] == 2
    assert found["training_prompts"] == 3
    listed = [row for _, row in read_rows(tmp_path / "out" / "contamination.jsonl")]
    exact = [row for row in listed if row["kind"] == "exact"]
    assert [(row["training"], row["prompt"]) for row in exact] == [
        ("row 1", "what is 3 plus 3 ?"),
        ("row 2", "what is 3 plus 3 ?"),
    ]
    (tmp_path / "model").mkdir()
    assert training_file_of(str(tmp_path / "model")) is None
    write_rows(tmp_path / "pairs.jsonl", rows)
    assert training_file_of(str(tmp_path / "model")) == tmp_path / "pairs.jsonl"
    unknown = evaluate(Length(), pairs, tmp_path / "unknown")["contamination"]
    assert unknown["checked"] is False


@needs_data
def test_margins_are_held_against_a_real_judge(tmp_path):
    sets = [("alpaca_eval", str(DATA / "alpaca_eval")), ("ultrafeedback", str(DATA / "ultrafeedback"))]
    found = evaluate(Length(), [], tmp_path / "out", calibration=sets)["calibration"]
    for name, _ in sets:
        rows = found[name]["rows"]
        assert rows["in"] == rows["kept"] + sum(n for by in rows["reasons"].values() for n in by.values())
        assert rows["no_answer"] == 0
    assert "## Calibration: alpaca_eval" in (tmp_path / "out" / "table.md").read_text()


def test_an_unknown_set_of_strengths_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="none of alpaca_eval"):
        evaluate(Length(), [], tmp_path / "out", calibration=[("mine", "x")])
    with pytest.raises(BenchmarkError, match="no file"):
        evaluate(Length(), [], tmp_path / "out", calibration=[("alpaca_eval", str(tmp_path))])
