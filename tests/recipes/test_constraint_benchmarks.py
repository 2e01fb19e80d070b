"""FollowBench and CFBench before scripted judges, through the real ledger: the official files, and judges who err."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from helpers import HOSTILE, FunctionTransport

from reward_distiller.evaluate.policy import cf_bench, follow_bench, policy_benchmark_named
from reward_distiller.evaluate.policy.cf_bench import PRIMARY, SECONDARY
from reward_distiller.evaluate.policy.responses import read_responses
from reward_distiller.recipes.policy_evaluation import PolicyJudge, evaluate_policy, load_tasks

DATA = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))
FAST = {"max_asks": 2, "retries": 1, "sampling": {"max_tokens": 100}}


class Fake:
    """Parts whose one endpoint answers by a function."""

    def __init__(self, answer):
        self.transport = FunctionTransport(answer)
        self.transports = {"http://fake/v1": self.transport}

    def chat_model(self, model):
        return model


def evaluate(place, name, tasks, response_of, answer, **judge):
    rows = [{"id": task.id, "prompt": task.prompt.as_dicts(), "response": response_of(task)} for task in tasks]
    (place / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fake = Fake(answer)
    responses = read_responses(place / "responses.jsonl")
    asked = PolicyJudge("m@http://fake/v1", FAST, **judge)
    return evaluate_policy(policy_benchmark_named(name), tasks, responses, asked, place / "out", fake), fake.transport


def official(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not in $REWARD_DISTILLER_DATA")
    return load_tasks(policy_benchmark_named(name), str(DATA / name))


def quarantined(place):
    return [json.loads(line) for line in (place / "out" / "quarantine.jsonl").read_text().splitlines()]


def constraints_asked(request):
    return len(re.findall(r"^<step_\d(?:-\d+)?>$", request["messages"][0]["content"], re.MULTILINE))


# -- FollowBench ----------------------------------------------------------------------------------------


def test_followbench_official_files_with_a_judge_who_says_that_the_last_constraint_is_missed(tmp_path):
    tasks = official("followbench")

    def answer(request):
        count = constraints_asked(request)
        return "The last one is missed.\n" + json.dumps(["YES"] * (count - 1) + ["NO"])

    results, transport = evaluate(tmp_path, "followbench", tasks, lambda task: "no\nsuch thing", answer)
    assert (len(transport.asked), results["tasks"]["by_rule"], results["tasks"]["judged"]) == (470, 350, 820)
    value = {name: one["value"] for name, one in results["figures"].items()}
    assert value["hsr.style"] == value["csl.style"] == value["ssr.example"] == 0
    for level in range(1, 6):
        assert value[f"ssr.style.level_{level}"] == pytest.approx(100 * (level - 1) / level, abs=1e-3)
        assert value[f"ssr.format.level_{level}"] == pytest.approx(100 * 28 / 30 * (level - 1) / level, abs=1e-3)
    assert results["details"]["by_rule"] == {"content": 60, "situation": 40, "format": 10, "example": 200, "mixed": 40}
    assert results["tasks"]["read_otherwise_upstream"] == 0


def test_followbench_official_files_with_a_judge_who_is_pleased_up_to_level_3(tmp_path):
    tasks = [task for task in official("followbench") if task.labels["category"] == "style"]

    def answer(request):
        count = constraints_asked(request)
        return json.dumps(["YES"] * count if count <= 3 else ["NO"] * count)

    results, _ = evaluate(tmp_path, "followbench", tasks, lambda task: HOSTILE, answer)
    figures = results["figures"]
    assert (figures["csl"]["value"], figures["csl"]["percent"], figures["csl"]["n"]) == (3, False, 30)
    assert (figures["hsr"]["value"], figures["hsr.level_3"]["value"], figures["hsr.level_4"]["value"]) == (60, 100, 0)
    assert "csl | 3.000" in (tmp_path / "out" / "table.md").read_text()


def chain(place, groups=4):
    rows = [
        {"example_id": g, "source": "quora", "level": n, "instruction": f"wish {g} step {n}", "target": ""}
        for g in range(1, groups + 1)
        for n in range(6)
    ]
    (place / "style_constraints.json").write_text(json.dumps(rows))
    return follow_bench.read(place)


def test_followbench_what_cannot_be_read_is_quarantined_and_read_otherwise_upstream(tmp_path):
    tasks = chain(tmp_path)

    def answer(request):
        text, count = request["messages"][0]["content"], constraints_asked(request)
        odd = {
            "wish 1 step 2\n</question": "['YES', 'PARTIAL']",  # upstream: one of two
            "wish 2 step 1\n</question": "YES, and NO",  # upstream: a yes
            "wish 3 step 3\n</question": "['YES', 'YES']",  # upstream: -1
        }
        return next((reply for sign, reply in odd.items() if sign in text), json.dumps(["YES"] * count))

    strict, transport = evaluate(tmp_path, "followbench", tasks, lambda task: "r", answer)
    assert len(transport.asked) == 20 + 3
    assert strict["reading"] == "strict"
    assert (strict["tasks"]["judged"], strict["tasks"]["read_otherwise_upstream"]) == (17, 3)
    assert strict["figures"]["hsr"]["value"] == strict["figures"]["ssr"]["value"] == 100
    assert (strict["figures"]["csl"]["value"], strict["figures"]["csl"]["n"]) == (5, 1)
    assert {row["answers"][0] for row in quarantined(tmp_path)} == {
        "['YES', 'PARTIAL']",
        "YES, and NO",
        "['YES', 'YES']",
    }
    upstream, transport = evaluate(tmp_path, "followbench", tasks, lambda task: "r", answer, upstream=True)
    assert transport.asked == []
    assert (upstream["reading"], upstream["tasks"]["judged"]) == ("upstream", 20)
    figures = {name: one["value"] for name, one in upstream["figures"].items()}
    assert (figures["hsr.level_1"], figures["hsr.level_2"], figures["hsr.level_3"]) == (100, 75, 50)
    assert (figures["ssr.level_2"], figures["ssr.level_3"]) == (87.5, 50)
    assert figures["csl"] == (1 + 5 + 2 + 5) / 4
    assert "1 judgements that upstream cannot read count -1" in upstream["notes"][-1]


# -- CFBench --------------------------------------------------------------------------------------------


def test_cfbench_official_file_with_a_judge_who_misses_every_second_criterion(tmp_path):
    tasks = official("cfbench")[:300]

    def answer(request):
        count = int(re.search(r"There are (\d+) criteria", request["messages"][0]["content"])[1])
        return "\n".join(f"{n}: {n % 2}" for n in range(1, count + 1))

    results, transport = evaluate(tmp_path, "cfbench", tasks, lambda task: f"答 {task.id}", answer)
    assert (len(transport.asked), results["tasks"]["judged"], results["tasks"]["by_rule"]) == (300, 300, 0)
    counts = [len(task.details["criteria"]) for task in tasks]
    shares = [-(-count // 2) / count for count in counts]
    assert results["figures"]["csr"]["value"] == pytest.approx(100 * sum(shares) / len(shares), abs=1e-3)
    assert results["figures"]["isr"]["value"] == pytest.approx(100 * counts.count(1) / len(counts), abs=1e-3)
    assert {"csr.easy", "psr.hard", "csr.汽车", "satisfied.primary", "satisfied.数值约束"} <= results["figures"].keys()
    assert results["tasks"]["read_otherwise_upstream"] == 0


def test_cfbench_what_cannot_be_read_is_quarantined_and_read_otherwise_upstream(tmp_path):
    rows = [
        {
            "idx": n,
            "prompt": f"问题 {n}",
            "criteria": [[f"c{m}", p, "形", ""] for m, p in enumerate((PRIMARY, SECONDARY))],
        }
        for n in range(5)
    ]
    (tmp_path / "cfbench_data.json").write_text(json.dumps(rows))
    tasks = cf_bench.read(tmp_path)
    replies = ["1: 1\n2: 1", "1: 0\n2: 1\nso it is", "都不满足", "1: 1\n2: 是", "2: 0\n1: 0"]

    def answer(request):
        return replies[int(re.search(r"问题 (\d)", request["messages"][0]["content"])[1])]

    strict, _ = evaluate(tmp_path, "cfbench", tasks, lambda task: "r", answer)
    assert (strict["tasks"]["judged"], strict["tasks"]["read_otherwise_upstream"]) == (2, 2)
    assert strict["figures"]["csr"]["value"] == 50
    assert {tuple(row["answers"]) for row in quarantined(tmp_path)} == {(reply,) * 2 for reply in replies[1:4]}
    upstream, transport = evaluate(tmp_path, "cfbench", tasks, lambda task: "r", answer, upstream=True)
    assert transport.asked == []
    # The first two satisfy all, the third nothing; at the fourth the script fails; no one is found in the fifth.
    assert (upstream["tasks"]["judged"], upstream["figures"]["isr"]["value"]) == (4, 50)
    assert upstream["tasks"]["no_judgement"] == {
        "unusable answer: a line that is not a criterion's number and 0 or 1": 1
    }
