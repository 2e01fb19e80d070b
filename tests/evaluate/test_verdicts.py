"""Verdicts' figures by hand, and the verdicts that real judges gave against the figures published for them."""

import math
import os
from collections import defaultdict
from pathlib import Path

import pytest

from reward_distiller.evaluate.benchmarks.judgebench import CATEGORIES
from reward_distiller.evaluate.metrics import Metric
from reward_distiller.evaluate.verdicts import Judged, between, kappa, macro, metrics
from reward_distiller.files import read_rows


def data(name: str) -> Path:
    path = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / name
    if not path.exists():
        pytest.skip(f"{name} is not in $REWARD_DISTILLER_DATA")
    return path


def values(found: dict[str, Metric]) -> dict[str, float]:
    return {name: metric.value for name, metric in found.items()}


def test_by_hand():
    judged = [
        Judged("right twice", "first", "first", "first"),
        Judged("always what is shown first", "second", "first", "second"),
        Judged("unreadable, then right", "first", None, "first"),
        Judged("wrong, then a tie", "first", "second", "tie"),
    ]
    found = values(metrics(judged))
    assert found["single"] == (1 + 1 / 2 + 1 / 2 + 0) / 4
    assert found["pair"] == 1 / 4
    assert found["agreement"] == 1 / 4
    assert found["no_verdict"] == (0 + 0 + 1 / 2 + 0) / 4
    assert (
        found["first_shown"] == (1 / 2 + 1 + 0 + 0) / 4
    )  # the third prefers what was shown second; the tie is left out
    assert found["judgebench"] == 2 / 4  # the second has one for each, the fourth one against


def test_one_order():
    judged = [Judged("a", "first", "first"), Judged("b", "second", "first"), Judged("c", "second", None)]
    assert values(metrics(judged)) == pytest.approx(
        {"single": 1 / 3, "first_shown": 1, "no_verdict": 1 / 3, "judgebench": 1 / 3}
    )
    mixed = values(metrics([*judged, Judged("d", "tie", "tie", "tie")]))
    assert mixed["pair"] == 1  # over the one pair that was asked in both orders
    assert mixed["single"] == 2 / 4


def test_two_unreadable_verdicts_are_no_agreement():
    found = values(metrics([Judged("a", "first", None, None)]))
    assert (found["agreement"], found["no_verdict"], found["single"]) == (0, 1, 0)
    assert "first_shown" not in found


def test_kappa_by_hand():
    # alike in 3 of 4; by chance 1/2 * 3/4 + 1/2 * 1/4
    assert kappa("aabb", "aaab") == pytest.approx((3 / 4 - 1 / 2) / (1 - 1 / 2))
    assert kappa("ab", "ba") == -1
    assert math.isnan(kappa("aa", "aa"))


def test_macro_by_hand():
    found = macro(["first", "first", "second", "second"], ["first", None, "first", "second"])
    # first: precision 1/2, recall 1/2; second: precision 1, recall 1/2
    assert found == pytest.approx({"accuracy": 1 / 2, "precision": 3 / 4, "recall": 1 / 2, "f1": (1 / 2 + 2 / 3) / 2})


JUDGEBENCH = {  # tables 2 and 3 of the paper: knowledge, reasoning, math, coding, overall
    "o1-mini-2024-09-12": (58.44, 62.24, 82.14, 78.57, 65.71),
    "Skywork/Skywork-Reward-Gemma-2-27B": (59.74, 66.33, 83.93, 50.00, 64.29),
    "Skywork/Skywork-Reward-Llama-3.1-8B": (59.09, 64.29, 76.79, 50.00, 62.29),
    "internlm/internlm2-20b-reward": (62.34, 69.39, 66.07, 50.00, 63.43),
    "internlm/internlm2-7b-reward": (56.49, 61.22, 71.43, 50.00, 59.43),
    "Ray2333/GRM-Gemma-2B-rewardmodel-ft": (62.99, 53.06, 64.29, 54.76, 59.43),
}
DECISIONS = {"A>B": "first", "B>A": "second", "A=B": "tie", None: None}
FLIPPED = {"A>B": "B>A", "B>A": "A>B"}


def test_judgebench_s_judges():
    categories = {}
    for _, row in read_rows(data("judgebench/pairs.jsonl.gz")):
        (categories[row["pair_id"]],) = [name for start, name in CATEGORIES.items() if row["source"].startswith(start)]
    judges: dict[str, dict[str, list[Judged]]] = defaultdict(lambda: defaultdict(list))
    counted: dict[str, list[bool]] = defaultdict(list)
    for _, row in read_rows(data("judgebench/judge_outputs.jsonl.gz")):
        shown, swapped = (judgment["decision"] for judgment in row["judgments"])
        back = FLIPPED.get(swapped, swapped)
        judged = Judged(row["pair_id"], DECISIONS[row["label"]], DECISIONS[shown], DECISIONS[back])
        for part in (categories[row["pair_id"]], "overall"):
            judges[row["judge_model"]][part].append(judged)
        votes = [1 if d == row["label"] else -1 if d == FLIPPED[row["label"]] else 0 for d in (shown, back)]
        counted[row["judge_model"]].append(sum(votes) > 0)
    for judge, parts in judges.items():
        found = [100 * metrics(parts[part])["judgebench"].value for part in (*CATEGORIES.values(), "overall")]
        assert found[-1] == pytest.approx(100 * sum(counted[judge]) / len(counted[judge]))
        if judge in JUDGEBENCH:
            assert [round(value, 2) for value in found] == pytest.approx(JUDGEBENCH[judge]), judge
    assert len(judges) == len(JUDGEBENCH) + 1
    haiku = judges["claude-3-haiku-20240307"]["overall"]  # on Claude's pairs, of which the paper gives no figure
    assert (len(haiku), metrics(haiku)["judgebench"].value) == (270, 87 / 270)


LLMBAR = {  # upstream's statistics.json: average, right in both orders, agreement, kappa of the two orders
    ("natural", "Vanilla"): (95.5, 93.0, 95.0, 0.897708674304419),
    ("adver-neighbor", "Vanilla"): (78.73134328358209, 75.3731343283582, 93.28358208955224, 0.8651308432118094),
    ("adver-GPTInst", "Vanilla"): (86.41304347826086, 83.69565217391305, 94.56521739130434, 0.8909952606635071),
    ("adver-GPTOut", "Vanilla"): (77.6595744680851, 74.46808510638297, 93.61702127659575, 0.8685927306616962),
    ("adver-manual", "Vanilla"): (80.43478260869566, 71.73913043478261, 82.6086956521739, 0.6521739130434783),
    ("natural", "CoT"): (94.5, 90.0, 91.0, 0.8160261651676206),
    ("adver-neighbor", "CoT"): (75.0, 70.1492537313433, 90.29850746268657, 0.8067450632349678),
    ("adver-GPTInst", "CoT"): (83.15217391304348, 78.26086956521739, 90.21739130434783, 0.8039772727272727),
    ("adver-GPTOut", "CoT"): (74.46808510638297, 68.08510638297872, 87.2340425531915, 0.7417582417582418),
    ("adver-manual", "CoT"): (73.91304347826086, 65.21739130434783, 82.6086956521739, 0.6468330134357005),
    ("natural", "Rating"): (92.0, 87.0, 90.0, 0.795417348608838),
    ("adver-neighbor", "Rating"): (77.98507462686567, 67.16417910447761, 78.35820895522389, 0.5829577162481219),
    ("adver-manual", "Rating"): (84.78260869565217, 76.08695652173914, 82.6086956521739, 0.6617647058823529),
    ("adver-neighbor", "Metrics_Reference"): (85.44776119402985, 82.83582089552239, 94.77611940298507, 0.8951017669425),
    ("adver-neighbor", "Swap"): (77.61194029850746, 76.11940298507463, 97.01492537313433, 0.9399776035834266),
    ("adver-manual", "Swap"): (81.52173913043478, 78.26086956521739, 93.47826086956522, 0.8700564971751412),
}


def test_llmbar_s_gpt_4_verdicts():
    judged: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    verdict = {"1": "first", "2": "second"}
    for _, row in read_rows(data("llmbar/gpt4_evaluations.jsonl.gz")):
        last = row["results"][-1]
        orders = [verdict[last[f"swap = {swap}"]["winner"]] for swap in (False, True)]
        judged[row["subset"].removeprefix("llmbar-"), row["evaluator"].removeprefix("GPT-4/")].append(
            Judged(str(row["idx"]), verdict[str(row["label"])], *orders)
        )
    for key, published in LLMBAR.items():
        found = values(metrics(judged[key]))
        between_orders = kappa([j.first for j in judged[key]], [j.swapped for j in judged[key]])
        ours = (100 * found["single"], 100 * found["pair"], 100 * found["agreement"], between_orders)
        assert ours == pytest.approx(published), key
        # inconsistent pairs are all that a judge without ties can be biased on
        assert abs(found["first_shown"] - 0.5) <= (1 - found["agreement"]) / 2 + 1e-9


PANDALM = {  # upstream's data/compute_metrics.py: accuracy, then macro precision, recall and F1
    "gpt_result": (0.7107, 0.5879, 0.5736, 0.5755),
    "pandalm_result": (0.6677, 0.5738, 0.5750, 0.5743),
}


def test_pandalm_s_judges_and_annotators():
    rows = [row for _, row in read_rows(data("pandalm/testset-v1_with_judges.jsonl.gz"))]
    verdict = {"1": "first", "2": "second"}  # upstream counts a tie, and what it could not read, as a tie
    people = {f"annotator{i}": [verdict.get(str(row[f"annotator{i}"]), "tie") for row in rows] for i in (1, 2, 3)}
    labels = [max(sorted(set(votes)), key=votes.count) for votes in zip(*people.values(), strict=True)]
    assert [labels.count(label) for label in ("tie", "first", "second")] == [105, 422, 472]  # the table of its README
    for judge, published in PANDALM.items():
        found = macro(labels, [verdict.get(str(row[judge]), "tie") for row in rows])
        assert [round(found[name], 4) for name in ("accuracy", "precision", "recall", "f1")] == list(published)
    agreed = between(people)
    assert [round(a.kappa, 2) for a in agreed.values()] == [0.85, 0.88, 0.86]  # the table of its README


def test_what_could_not_be_read_is_no_tie():
    rows = [row for _, row in read_rows(data("pandalm/testset-v1_with_judges.jsonl.gz"))]
    verdict = {"1": "first", "2": "second", "Tie": "tie", "garbage": None}
    votes = [[row[f"annotator{i}"] for i in (1, 2, 3)] for row in rows]
    names = {0: "tie", 1: "first", 2: "second"}
    judged = [
        Judged(str(row["idx"]), names[max(sorted(set(vote)), key=vote.count)], verdict[row["gpt_result"]])
        for row, vote in zip(rows, votes, strict=True)
    ]
    found = values(metrics(judged))
    assert found["no_verdict"] == 25 / 999
    assert found["single"] <= 0.7107
