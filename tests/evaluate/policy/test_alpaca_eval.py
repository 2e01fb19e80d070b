"""AlpacaEval 2: the official files as they are, the drawn order, and the official leaderboard reproduced."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from reward_distiller.errors import DataError
from reward_distiller.evaluate.policy import alpaca_eval
from reward_distiller.evaluate.policy.protocol import Judged, JudgeRequest

WEIGHTS = (
    ",np.tanh(std_delta_len),instruction_difficulty,not_gamed_baseline.astype(float)\n"
    "gpt4_1106_preview_verbose,-1.58,0.83,0.19\ngpt4_1106_preview_concise,-1.64,0.68,-0.32\n"
)


def folder(place: Path, count: int = 40, *, difficulties: bool = True, weights: str | None = WEIGHTS) -> Path:
    rows = [
        {"idx": at, "dataset": "koala" if at % 2 else "oasst", "instruction": f"question {at}", "output": "word " * at}
        for at in range(count)
    ]
    (place / "reference.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if difficulties:
        lines = "".join(f"{at},{at % 7 - 3}\n" for at in range(count))
        (place / "instruction_difficulty.csv").write_text(f"idx,difficulty\n{lines}")
    if weights is not None:
        (place / "lc_glm_weights.csv").write_text(weights)
    return place


def judged(tasks, preference) -> list[Judged]:
    """Responses whose preference is a function of the task's place, as a judge says it in the order that it saw."""
    found = []
    for at, task in enumerate(tasks):
        response = f"answer {'longer ' * (at % 5)}"
        p = preference(at)
        found.append(Judged(task, response, (p if alpaca_eval.shown_first(task, response) else 1 - p,)))
    return found


def test_the_order_is_drawn_and_the_verdict_turned_back(tmp_path):
    tasks = alpaca_eval.read(folder(tmp_path, 200))
    first = 0
    for task in tasks:
        request = alpaca_eval.request(task, "mine")
        assert isinstance(request, JudgeRequest)
        shown = [request.values["response_1"], request.values["response_2"]]
        assert sorted(shown) == sorted(["mine", task.details["reference"]])
        first += shown[0] == "mine"
        up = 0.9 if shown[0] == "mine" else 0.1
        assert alpaca_eval.preference(Judged(task, "mine", (up,))) == pytest.approx(0.9)
    assert 70 < first < 130


def test_the_reference_itself_is_worth_one_half_and_nobody_is_asked(tmp_path):
    tasks = alpaca_eval.read(folder(tmp_path))
    given = [Judged(t, t.details["reference"], alpaca_eval.request(t, t.details["reference"])) for t in tasks]
    found = alpaca_eval.figures(given)
    for name in ("win_rate", "discrete_win_rate"):
        assert found.figures[name].value == 50
    assert found.figures["length_controlled_win_rate"].value == pytest.approx(50, abs=3)
    assert found.details["draws"] == 40


def test_figures_by_hand(tmp_path):
    found = alpaca_eval.figures(judged(alpaca_eval.read(folder(tmp_path)), lambda at: (0.75, 0.5, 0.1, 1.0)[at % 4]))
    assert found.figures["win_rate"].value == pytest.approx(58.75)
    assert found.figures["discrete_win_rate"].value == pytest.approx(62.5)
    assert found.figures["win_rate.oasst"].value == pytest.approx(42.5)
    assert found.figures["win_rate.koala"].value == pytest.approx(75)
    assert (found.details["wins"], found.details["losses"], found.details["draws"]) == (20, 10, 10)
    spread = np.std([0.75, 0.5, 0.1, 1.0] * 10, ddof=1) / np.sqrt(40)
    assert found.details["standard_error"] == pytest.approx(100 * spread)
    controlled = found.figures["length_controlled_win_rate"]
    assert controlled.low < controlled.value < controlled.high
    assert any("10 of 40" in note for note in found.notes)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"difficulties": False}, "40 instructions have no difficulty"),
        ({"weights": None}, "gpt4_1106_preview_verbose"),
        ({"weights": WEIGHTS.splitlines()[0] + "\nother,1,2,3\n"}, "gpt4_1106_preview_concise"),
    ],
)
def test_without_its_tables_there_is_no_length_control_and_a_note(tmp_path, files, said):
    found = alpaca_eval.figures(judged(alpaca_eval.read(folder(tmp_path, **files)), lambda at: 0.6))
    assert "length_controlled_win_rate" not in found.figures
    assert said in " ".join(found.notes)
    assert found.figures["win_rate"].value == pytest.approx(60)


def test_a_single_judged_response_has_figures(tmp_path):
    found = alpaca_eval.figures(judged(alpaca_eval.read(folder(tmp_path))[:1], lambda at: 0.6))
    assert found.details["standard_error"] is None
    assert found.figures["length_controlled_win_rate"].n == 1


def test_the_official_layout_of_the_reference(tmp_path):
    """A JSON list without an index: the place is the index, as in the official data set."""
    rows = [{"instruction": "a", "output": "b", "generator": "g"}, {"instruction": "c", "output": "d"}]
    (tmp_path / "model_outputs.json").write_text(json.dumps(rows))
    assert [task.id for task in alpaca_eval.read(tmp_path)] == ["0", "1"]
    assert [task.id for task in alpaca_eval.read(tmp_path / "model_outputs.json")] == ["0", "1"]


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda d: (d / "reference.jsonl").unlink(), "reference's outputs do not lie there"),
        (lambda d: (d / "reference.jsonl").write_text('{"instruction": "a"}\n'), "row 1, field 'output': missing"),
        (lambda d: (d / "reference.jsonl").write_text('{"instruction": 3, "output": "b"}\n'), "field 'instruction'"),
        (lambda d: (d / "instruction_difficulty.csv").write_text("idx,d\n0,hard\n"), "'hard' is no number"),
        (lambda d: (d / "instruction_difficulty.csv").write_text("idx,d\n0,nan\n"), "'nan' is no number"),
        (lambda d: (d / "instruction_difficulty.csv").write_text("idx\n0\n"), "one column"),
        (lambda d: (d / "instruction_difficulty.csv").write_bytes(b"idx,d\n0,\xff\n"), "cannot be read"),
        (lambda d: (d / "lc_glm_weights.csv").write_text(",a,b\nm,1,2\n"), "field 'std_delta_len'"),
        (lambda d: (d / "lc_glm_weights.csv").write_text(WEIGHTS + "m,1\n"), "row 3"),
    ],
)
def test_files_that_are_none_of_its_are_errors(tmp_path, break_it, said):
    folder(tmp_path)
    break_it(tmp_path)
    with pytest.raises(DataError, match=said):
        alpaca_eval.read(tmp_path)


def test_the_leaderboard_from_the_real_annotations():
    """Win rates to the digit. Length-controlled ones as near as estimated difficulties and no gamed rows allow."""
    place = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / "alpaca_eval"
    if not place.is_dir():
        pytest.skip("alpaca_eval is not in $REWARD_DISTILLER_DATA")
    from bench.alpaca_eval import rows

    found = list(rows(place))
    assert len(found) == 15
    for name, mean, most in (
        ("win rate", 6e-4, 6e-4),
        ("discrete", 6e-4, 6e-4),
        ("fitted", 0.35, 1.1),
        ("given", 0.11, 0.25),
    ):
        off = [abs(row.off[name]) for row in found]
        assert np.mean(off) <= mean
        assert max(off) <= most
