"""FollowBench: the official files as they are, rates by hand, and the benchmark's own reading of a judge's answer."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from reward_distiller.errors import DataError
from reward_distiller.evaluate.policy import follow_bench
from reward_distiller.evaluate.policy.protocol import Judged, JudgeRequest

DATA = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / "followbench"


def rows(groups=2, *, first=0, category="style", **fields):
    return [
        {
            "example_id": g,
            "category": category,
            "source": "quora",
            "level": n,
            "instruction": f"{g}, step {n}",
            **fields,
        }
        for g in range(1, groups + 1)
        for n in range(first, 6)
    ]


def write(place, found, category="style"):
    (place / f"{category}_constraints.json").write_text(json.dumps(found))
    return place


def judged(tasks, verdicts):
    """`verdicts` by group and level; a task without is not judged."""
    found = []
    for task in tasks:
        _, group, level = task.id.split(".")
        if (given := verdicts(int(group), int(level))) is not None:
            found.append(Judged(task, "r", tuple(map(float, given))))
    return found


def test_a_judge_sees_the_chain_up_to_the_level_that_was_asked(tmp_path):
    tasks = follow_bench.read(write(tmp_path, rows()))
    assert [task.id for task in tasks] == [f"style.{g}.{n}" for g in (1, 2) for n in range(1, 6)]
    request = follow_bench.request(tasks[7], "mine")
    assert isinstance(request, JudgeRequest)
    assert request.count == 3
    assert [request.values[f"step_{n}"] for n in range(5)] == ["2, step 0", "2, step 1", "2, step 2", "", ""]
    assert tasks[7].prompt.messages[0].content == "2, step 3"


def test_rates_by_hand(tmp_path):
    """Group 1 keeps all but the last constraint of level 4; group 2 misses the first of each level."""
    tasks = follow_bench.read(write(tmp_path, rows()))
    kept = {1: lambda n: [1] * n if n != 4 else [1, 1, 1, 0], 2: lambda n: [0] + [1] * (n - 1)}
    found = follow_bench.figures(judged(tasks, lambda g, n: kept[g](n))).figures
    assert found["hsr.level_3"].value == 50
    assert found["hsr.level_4"].value == 0
    assert found["hsr"].value == found["hsr.style"].value == pytest.approx(40)
    assert found["ssr.level_4"].value == 75
    assert found["ssr.style.level_1"].value == 50
    assert found["ssr"].value == pytest.approx((50 + 75 + 250 / 3 + 75 + 90) / 5, abs=1e-3)
    assert found["csl"].value == pytest.approx((3 + 0) / 2)
    assert (found["csl"].low, found["csl"].high, found["csl"].n) == (0, 3, 2)


def test_figures_over_all_are_plain_means_of_the_categories(tmp_path):
    write(tmp_path, rows(1))
    write(tmp_path, rows(3, first=1, target="{instruction}\nA: {answer}"), "example")
    tasks = follow_bench.read(tmp_path)
    given = [Judged(t, "r", (float(t.labels["category"] == "style"),)) for t in tasks]
    found = follow_bench.figures(given)
    assert found.figures["hsr"].value == found.figures["ssr.level_5"].value == 50
    assert found.figures["csl"].value == 2.5
    assert (found.figures["csl.style"].value, found.figures["csl.example"].value) == (5, 0)
    assert found.details["by_rule"] == {"example": 15}
    assert "nothing is judged of content, situation, format, mixed" in found.notes[0]


def test_what_is_not_judged_is_said_and_never_a_failure(tmp_path):
    tasks = follow_bench.read(write(tmp_path, rows()))
    found = follow_bench.figures(judged(tasks, lambda g, n: None if n == 5 or (g, n) == (2, 2) else [1] * n))
    assert found.figures["hsr"].value == found.figures["ssr"].value == 100
    assert found.figures["hsr.level_2"].n == 1
    assert not any(name.startswith("csl") for name in found.figures)
    assert "2 groups lack a judgement on some level; they have no CSL" in found.notes
    assert any("averages are of the others: style 5" in note for note in found.notes)
    one = follow_bench.figures(judged(tasks, lambda g, n: None if (g, n) == (2, 2) else [1] * n))
    assert (one.figures["csl"].value, one.figures["csl"].n) == (5, 1)


def test_a_category_with_a_hole_weighs_as_much_as_a_whole_one(tmp_path):
    write(tmp_path, rows(1))
    tasks = follow_bench.read(write(tmp_path, rows(1), "format"))
    given = [
        Judged(t, "r", (float(t.id.startswith("style")),)) for t in tasks if t.id not in ("style.1.5", "style.1.4")
    ]
    found = follow_bench.figures(given).figures
    assert (found["hsr"].value, found["hsr.style"].value) == (50, 100)
    assert (found["hsr.level_3"].value, found["hsr.level_5"].value) == (50, 0)


def test_levels_count_up_to_the_first_failure():
    assert follow_bench.consistent_levels({1: 1, 2: 1, 3: 0, 4: 1, 5: 1}) == 2
    assert follow_bench.consistent_levels({1: 0, 2: 1}) == 0
    assert follow_bench.consistent_levels({1: 1, 2: -1, 3: 1}) == 1
    assert follow_bench.consistent_levels(dict.fromkeys(range(1, 6), 1)) == 5


@pytest.mark.parametrize(
    ("level", "text", "verdicts"),
    [
        (1, "Fine.\n['YES']", (1,)),
        (1, "YES and NO", (1,)),  # a yes anywhere in the last line
        (1, "It is NOT so", (0,)),
        (1, "['YES']\nas I said", (-1,)),
        (1, "", (-1,)),
        (2, "['YES', 'NO']", (1, 0)),
        (2, "so: ['YES', \"PARTIAL\"] I think", (1, 0)),
        (2, "```\n['N/A', 'YES']\n```", (0, 1)),
        (2, "['YES']", (-1, -1)),
        (2, "['YES', 'NO', 'NO']", (-1, -1)),
        (2, "[YES, NO]", (-1, -1)),
        (2, "['Yes', 'NO']", (-1, -1)),
        (2, "['YES', ['NO']]", (-1, -1)),
        (2, "['YES'] ['NO']", (-1, -1)),
        (2, "YES, NO", (-1, -1)),
        (2, "[" * 5000 + "]" * 5000, (-1, -1)),
        (2, "[(1).__class__, 'YES']", (-1, -1)),
    ],
)
def test_how_the_benchmarks_scripts_read_an_answer(tmp_path, level, text, verdicts):
    task = follow_bench.read(write(tmp_path, rows(1)))[level - 1]
    assert follow_bench.upstream(task, text) == verdicts


def test_what_upstream_cannot_read_counts_minus_one(tmp_path):
    tasks = follow_bench.read(write(tmp_path, rows()))
    given = judged(tasks, lambda g, n: [-1] * n if (g, n) == (2, 2) else [1] * n)
    found = follow_bench.figures(given)
    assert found.figures["hsr.level_2"].value == found.figures["ssr.level_2"].value == 0
    assert found.figures["csl"].value == 3
    assert "1 judgements that upstream cannot read count -1" in found.notes[-1]


def broken(place, change):
    found = rows()
    change(found)
    return write(place, found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop(3), "row 4, field 'level': 4 of group 1 is out of order"),
        (lambda r: r.pop(0), "row 1, field 'level': 1 of group 1 is out of order"),
        (lambda r: r.pop(), "group 2 ends at level 4"),
        (lambda r: r.insert(2, r[8]), "is out of order"),
        (lambda r: r[1].update(level="1"), "'1' is no whole number"),
        (lambda r: r[1].update(level=True), "True is no whole number"),
        (lambda r: r[1].update(instruction=" "), "field 'instruction': empty"),
        (lambda r: r[1].update(instruction=7), "field 'instruction'"),
        (lambda r: r[1].pop("example_id"), "field 'example_id': missing"),
        (lambda r: r[1].update(source="CONLL2003"), "compared with it"),
        (lambda r: r[1].update(source="CONLL2003", target="Bonn"), "not a list|malformed"),
    ],
)
def test_rows_that_are_none_of_its_are_errors(tmp_path, change, said):
    with pytest.raises(DataError, match=said):
        follow_bench.read(broken(tmp_path, change))


def test_files_that_are_none_of_its_are_errors(tmp_path):
    with pytest.raises(DataError, match="no file of it lies there"):
        follow_bench.read(tmp_path)
    (tmp_path / "colour_constraints.json").write_text("[{}]")
    with pytest.raises(DataError, match="'colour' is no category"):
        follow_bench.read(tmp_path / "colour_constraints.json")
    with pytest.raises(DataError, match=r"holds no \{answer\}"):
        follow_bench.read(write(tmp_path, rows(first=1), "example"))


def test_the_official_files():
    if not DATA.is_dir():
        pytest.skip("followbench is not in $REWARD_DISTILLER_DATA")
    tasks = follow_bench.read(DATA)
    assert Counter(task.labels["level"] for task in tasks) == dict.fromkeys("12345", 164)
    assert len({task.prompt.id for task in tasks}) == 820
    requests = [(task, follow_bench.request(task, "")) for task in tasks]
    by_rule = Counter(task.labels["category"] for task, request in requests if not isinstance(request, JudgeRequest))
    assert by_rule == {"example": 200, "content": 60, "situation": 40, "mixed": 40, "format": 10}
    assert all(r.count == int(t.labels["level"]) for t, r in requests if isinstance(r, JudgeRequest))


def test_the_official_targets_satisfy_their_own_rules():
    if not DATA.is_dir():
        pytest.skip("followbench is not in $REWARD_DISTILLER_DATA")
    checked = 0
    for task in follow_bench.read(DATA):
        source, target = task.details["source"], task.details["target"]
        if task.labels["category"] == "example":
            form = target.replace("{instruction}\n", "").replace("{{", "{").replace("}}", "}")
            response = form.replace("{answer}", "an answer")
        elif source == "CONLL2003":
            response = target.split("'")[1]
        elif source in follow_bench.rules.TARGETS:
            response = target
        else:
            continue
        checked += 1
        assert follow_bench.request(task, response) == (1.0,), task.id
        assert follow_bench.request(task, "no\nsuch thing") == (0.0,), task.id
    assert checked == 315
