"""JudgeBench's categories and response models by hand, and reward models' recorded scores against its paper."""

from collections import defaultdict

import pytest
from benchmark_rows import answered, data, read, values

from reward_distiller.errors import DataError
from reward_distiller.evaluate.benchmarks.judgebench import BENCHMARK
from reward_distiller.evaluate.benchmarks.reading import load
from reward_distiller.files import read_rows

PAPER = {  # table 3: knowledge, reasoning, math, coding, overall on the pairs written by GPT-4o
    "Skywork/Skywork-Reward-Gemma-2-27B": (59.74, 66.33, 83.93, 50.00, 64.29),
    "Skywork/Skywork-Reward-Llama-3.1-8B": (59.09, 64.29, 76.79, 50.00, 62.29),
    "internlm/internlm2-20b-reward": (62.34, 69.39, 66.07, 50.00, 63.43),
    "internlm/internlm2-7b-reward": (56.49, 61.22, 71.43, 50.00, 59.43),
    "Ray2333/GRM-Gemma-2B-rewardmodel-ft": (62.99, 53.06, 64.29, 54.76, 59.43),
}
COLUMNS = ("knowledge", "reasoning", "math", "coding", "overall")


def row(number: int, source: str = "livebench-math", label: str = "A>B", **changes: object) -> dict[str, object]:
    texts = {"question": f"q{number}", "response_A": f"a{number}", "response_B": f"b{number}"}
    return {"pair_id": f"p{number}", "source": source, "label": label, "response_model": "gpt", **texts, **changes}


def test_the_label_says_which_response_is_right():
    first, second = read(BENCHMARK, [row(1), row(2, label="B>A")])
    assert [first.responses, second.responses] == [("a1", "b1"), ("b2", "a2")]


def test_categories_and_response_models_by_hand():
    rows = [row(1, "mmlu-pro-law"), row(2, "mmlu-pro-computer science"), row(3, response_model="claude")]
    outcomes = answered(read(BENCHMARK, rows), [[1, 0], [2, 2], [1, 0]])  # the second is a tie, which is a loss
    found = values(BENCHMARK, outcomes)
    assert (found["overall"], found["knowledge"], found["math"]) == (pytest.approx(2 / 3), 0.5, 1)
    assert (found["gpt.overall"], found["claude.overall"], found["claude.math"]) == (0.5, 1, 1)
    assert "claude.knowledge" not in found
    assert len(BENCHMARK.metrics(outcomes).notes) == 1
    assert set(values(BENCHMARK, outcomes[:2])) == {"overall", "knowledge"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"label": "A=B"}, "field 'label': 'A=B' is no label"),
        ({"source": "poems"}, "field 'source': 'poems' is no source"),
        ({"question": None}, "field 'question': missing"),
        ({"response_B": 3}, "field 'response_B': 3, not text"),
        ({"pair_id": None}, "field 'pair_id': missing"),
    ],
)
def test_malformed_rows_are_named(change, problem):
    with pytest.raises(DataError, match="row 2, " + problem):
        read(BENCHMARK, [row(1), row(2, **change)])


def test_the_real_file():
    examples, balance = load(BENCHMARK, str(data("judgebench")))
    assert balance.line() == "load judgebench: in 620 rows = kept 620"
    assert sum(e.labels["response_model"].startswith("gpt-4o") for e in examples) == 350


def test_recorded_scores_of_reward_models_give_the_figures_of_the_paper():
    examples, _ = load(BENCHMARK, str(data("judgebench")))
    labels = {row["pair_id"]: row["label"] for _, row in read_rows(data("judgebench/pairs.jsonl.gz"))}
    rewards: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for _, judged in read_rows(data("judgebench/judge_outputs.jsonl.gz")):
        if judged["judge_name"] == "reward_model":
            a, b = judged["judgments"][0]["scores"]
            if a != b:
                assert judged["judgments"][0]["decision"] == ("A>B" if a > b else "B>A")
            rewards[judged["judge_model"]][judged["pair_id"]] = [a, b] if labels[judged["pair_id"]] == "A>B" else [b, a]
    assert set(rewards) == set(PAPER)
    for model, of_pair in rewards.items():
        seen = [example for example in examples if example.id in of_pair]
        found = values(BENCHMARK, answered(seen, [of_pair[example.id] for example in seen]))
        assert [round(100 * found[name], 2) for name in COLUMNS] == pytest.approx(PAPER[model]), model


def test_no_outcome_gives_no_figure():
    assert values(BENCHMARK, []) == {}
