"""CFBench: the official file as it is, rates by hand and against 60 official judgements, the script's own reading."""

import json
import os
from pathlib import Path

import pytest

from reward_distiller.errors import DataError
from reward_distiller.evaluate.policy import cf_bench
from reward_distiller.evaluate.policy.cf_bench import PRIMARY, SECONDARY
from reward_distiller.evaluate.policy.protocol import Judged

DATA = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / "cfbench"


def row(index, priorities, **fields):
    criteria = [[f"criterion {n}", p, ("form", "content")[n % 2], "sub"] for n, p in enumerate(priorities)]
    return {"idx": index, "prompt": f"prompt {index}", "criteria": criteria, "split": "easy", "source": "tob", **fields}


def write(place, *rows):
    (place / "cfbench_data.json").write_text(json.dumps(rows))
    return place


@pytest.mark.parametrize(
    ("verdicts", "priorities", "met"),
    [
        ("11", "ps", 1),
        ("10", "ps", 0),
        ("01", "ps", 0),
        ("111", "ppp", 1),
        ("110", "ppp", 0),
        ("111100", "psssss", 0),  # 3 of 5 secondary ones: 60% exactly
        ("111110", "psssss", 1),
        ("1110", "psss", 1),  # two thirds
        ("1100", "psss", 0),
        ("11110", "sssss", 0),  # 80% exactly
        ("111110", "ssssss", 1),
        ("1", "s", 1),
        ("0", "p", 0),
    ],
)
def test_priorities(verdicts, priorities, met):
    named = [{"p": PRIMARY, "s": SECONDARY}[letter] for letter in priorities]
    assert cf_bench.priorities_satisfied(tuple(map(float, verdicts)), named) == met
    with pytest.raises(ValueError, match="zip"):
        cf_bench.priorities_satisfied((1.0, *map(float, verdicts)), named)


def test_figures_by_hand(tmp_path):
    tasks = cf_bench.read(
        write(
            tmp_path,
            row(0, [PRIMARY, SECONDARY], doamin="law"),
            row(1, [PRIMARY, SECONDARY, SECONDARY, SECONDARY], split="hard", doamin="law"),
            row(2, [SECONDARY], doamin="Couplet", source="nlp_cif"),
            row(3, [PRIMARY, PRIMARY]),
        )
    )
    given = [(1, 1), (1, 1, 1, 0), (0,), (1, 0)]
    found = cf_bench.figures([Judged(t, "r", tuple(map(float, v))) for t, v in zip(tasks, given, strict=True)])
    value = {name: one.value for name, one in found.figures.items()}
    assert value["csr"] == pytest.approx(100 * (1 + 0.75 + 0 + 0.5) / 4)
    assert (value["isr"], value["psr"]) == (25, 50)
    assert (value["csr.hard"], value["isr.hard"], value["psr.hard"]) == (75, 0, 100)
    assert (value["psr.law"], value["psr.nlp_tasks"], value["csr.none"]) == (100, 0, 50)
    assert value["satisfied.primary"] == 75
    assert value["satisfied.secondary"] == 60
    assert value["satisfied.form"] == pytest.approx(80)
    assert value["satisfied.content"] == pytest.approx(50)
    assert found.details == {"criteria": 9}
    assert found.notes == ["1 prompts have no primary criterion; for PSR they need more than 80% of the others"]
    assert found.figures["csr"].low < value["csr"] < found.figures["csr"].high


def test_a_judge_sees_numbered_criteria_and_the_right_answer_where_there_is_one(tmp_path):
    rows = [row(0, [PRIMARY] * 2, gold="42"), row(1, [PRIMARY])]
    rows[0]["criteria"][0][0] = " one\n2. two"
    first, second = (cf_bench.request(task, "r") for task in cf_bench.read(write(tmp_path, *rows)))
    assert first.values["criteria"] == "1. one\n    2. two\n2. criterion 1"
    assert (first.values["reference"], second.values["reference"]) == ("42", "")
    assert (first.count, first.values["count"], second.count) == (2, "2", 1)


@pytest.mark.parametrize(
    ("text", "verdicts"),
    [
        ("1: 1\n2: 0\n3: 1", (1, 0, 1)),
        ("1: 1.0\n2: 0\n3: 1", (1, 0, 1)),
        ("1: 1\n2: 0", (1, 1, 1)),  # a line is missing: only ones are found, whatever was said
        ("1: 1\n2: 0\n2: 0\n3: 0", (1, 1, 1)),
        ("2: 1\n1: 0\n3: 0", (1, 1, 1)),
        ("1: 1\n2: 0\n3: 2", (1, 1, 1)),
        ("1: 0\n2: 0", (0, 0, 0)),
        ("I cannot tell", (0, 0, 0)),
        ("", (0, 0, 0)),
        ("1: 1: 1\n2: 0\n3: 0", (0, 0, 0)),  # two colons make no score
        ("1: yes\n2: no\n3: no", None),  # there the script itself fails
    ],
)
def test_how_the_benchmarks_script_reads_an_answer(tmp_path, text, verdicts):
    (task,) = cf_bench.read(write(tmp_path, row(0, [PRIMARY, SECONDARY, SECONDARY])))
    assert cf_bench.upstream(task, text) == verdicts


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("idx"), "field 'idx': missing"),
        (lambda r: r.update(idx=1.5), "neither text nor a whole number"),
        (lambda r: r.update(prompt=7), "field 'prompt'"),
        (lambda r: r.update(criteria=[]), "no list of criteria"),
        (lambda r: r.update(criteria="all"), "no list of criteria"),
        (lambda r: r["criteria"].append(["text", PRIMARY]), "is no criterion"),
        (lambda r: r["criteria"].append(["text", PRIMARY, 3, ""]), "is no criterion"),
        (lambda r: r["criteria"][0].__setitem__(1, "primary"), "lacks text or priority"),
        (lambda r: r["criteria"][0].__setitem__(0, " "), "lacks text or priority"),
        (lambda r: r.update(gold=["x"]), "field 'gold'"),
    ],
)
def test_rows_that_are_none_of_its_are_errors(tmp_path, change, said):
    found = row(0, [PRIMARY])
    change(found)
    with pytest.raises(DataError, match=said):
        cf_bench.read(write(tmp_path, found))


def test_a_folder_without_its_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="data file does not lie there"):
        cf_bench.read(tmp_path)


def test_the_official_file():
    if not DATA.is_dir():
        pytest.skip("cfbench is not in $REWARD_DISTILLER_DATA")
    tasks = cf_bench.read(DATA)
    assert len(tasks) == len({task.id for task in tasks}) == 1000
    assert len({task.prompt.id for task in tasks}) == 999
    assert sum(cf_bench.request(task, "r").count for task in tasks) == 4237
    assert len({task.labels["domain"] for task in tasks}) == 22


def test_the_official_metrics_row_by_row():
    """All 60, from the judge's answers. In 4 a criterion is repeated in other words, and the script drops all zeros."""
    if not DATA.is_dir():
        pytest.skip("cfbench is not in $REWARD_DISTILLER_DATA")
    from bench.cf_bench import rows

    found = rows(DATA / "judge_examples.jsonl.gz")
    assert len(found) == 60
    assert [each.name for each in found if each.ours != each.official] == []
    short = [each for each in found if each.read != each.count]
    assert [each.name for each in short] == ["abab 1", "deepseek_v2 1", "moonshot 5", "moonshot 10"]
    assert all(each.official == (1, 1, 1) != each.said for each in short)
    assert [each.name for each in found if each.ours != each.said] == [each.name for each in short]
