"""Previews of runs that sample and label responses, and of policies: what is prompted with, the judge, the vote."""

import json

import pytest
import yaml
from micro import cli
from rl.micro_rl import rl_config
from typer.testing import CliRunner

from reward_distiller.cli.main import app
from reward_distiller.config import parse_run
from reward_distiller.errors import ConfigError
from reward_distiller.recipes.preview.exchanges import UNKNOWN, Exchange, Shown
from reward_distiller.recipes.preview.runs import preview
from reward_distiller.recipes.whole_runs import do_run
from reward_distiller.testbed.language import World
from reward_distiller.testbed.parts import TestbedParts
from reward_distiller.testbed.server import serve

NOBODY = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "NO_SUCH_KEY"}


def sampled(folder, rows=None, **changes):
    rows = rows or [{"prompt": "name two fruits but not plum .", "open_ended": True}, {"prompt": "how many ?"}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "recipe": "pseudo_rewards",
        "output": str(folder / "run"),
        "prompts": {"path": str(folder / "prompts.jsonl")},
        "teacher": {"model": "teacher", **NOBODY},
        "samples": 4,
        "temperatures": [0.7, 1.0],
        "labels": {"answers": {"format": "testbed"}, "judge": {"model": "judge", **NOBODY}},
        "testbed": {"pretrain_steps": 5, "pretrain_threads": 1, "cache": str(folder / "testbed")},
    }
    return config | changes


def shown(settings, count=3, **options):
    config = parse_run(settings)
    return preview(config, TestbedParts(config.testbed, config.seed), count, **options)


def of(found, kind, step):
    return [each for each in found if isinstance(each, kind) and each.step == step]


def test_the_same_request_is_shown_once_with_how_often_it_is_sent(tmp_path):
    found = shown(sampled(tmp_path))
    asked = of(found, Exchange, "sample teacher")
    assert sorted((e.request["temperature"], e.times) for e in asked) == [(0.7, 2)] * 2 + [(1.0, 2)] * 2
    assert {e.source for e in asked} == {UNKNOWN}
    (judged,) = of(found, Exchange, "judge responses")
    assert "⟨sample teacher: what teacher says⟩" in judged.messages[-1]["content"]
    (vote,) = of(found, Shown, "vote")
    assert vote.text.startswith("not held")
    assert not of(found, Shown, "label")
    assert [p.name for p in tmp_path.iterdir()] == ["prompts.jsonl"]


def test_votes_and_labels_are_those_of_the_run(tmp_path):
    given = {"testbed": {"split": "train", "count": 6}}
    teacher = {"model": "fallible", "base_url": "testbed"}
    settings = sampled(tmp_path, prompts=given, teacher=teacher, samples=3)
    settings["labels"]["judge"] = teacher
    found = shown(settings, 6)
    assert {e.source for e in found if isinstance(e, Exchange)} == {"the testbed"}
    labels = {each.record: float(each.text.partition(",")[0]) for each in of(found, Shown, "label")}
    do_run(parse_run(settings), TestbedParts(parse_run(settings).testbed, 0))
    rows = [json.loads(line) for line in (tmp_path / "run" / "responses.jsonl").read_text().splitlines()]
    assert sorted(labels.values()) == pytest.approx(sorted(row["reward"] for row in rows), abs=1e-5)
    kept = [json.loads(line) for line in (tmp_path / "run" / "prompts.jsonl").read_text().splitlines()]
    consensus = {row["consensus"] for row in kept if "consensus" in row}
    votes = of(found, Shown, "vote")
    assert {vote.text.partition(",")[0] for vote in votes if "by " in vote.text} == consensus
    assert next(each.source for each in shown(settings, 6) if isinstance(each, Exchange)) == "the ledger"


def test_asked_for_it_buys_what_the_run_then_finds(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_SUCH_KEY", "key")
    with serve(api_key="key") as server:
        there = {"base_url": server.base_url, "api_key_env": "NO_SUCH_KEY"}
        settings = sampled(
            tmp_path,
            rows=[{"prompt": World(0).prompts(1, 0, "train", ["repeat"])[0]}],
            teacher={"model": "teacher", **there},
        )
        settings["labels"]["judge"] = {"model": "teacher", **there}
        found = shown(settings, ask=True)
        assert {e.source for e in found if isinstance(e, Exchange)} == {"bought now"}
        written = server.written
        do_run(parse_run(settings), TestbedParts(parse_run(settings).testbed, 0))
        assert server.written == written


def test_a_policy_is_shown_with_its_template_and_its_judge(tmp_path):
    settings = sampled(tmp_path, policy={"model": "testbed"}, teacher=None)
    found = shown(settings)
    texts = [each.text for each in of(found, Shown, "prompt policy")]
    assert len(texts) == 2
    assert "<user> name two fruits but not plum ." in texts[0]
    (judged,) = of(found, Exchange, "judge responses")
    assert "⟨the policy's response⟩" in judged.messages[-1]["content"]
    assert not (tmp_path / "testbed").exists()


def test_the_second_system_is_shown_from_the_teacher_to_the_student(tmp_path):
    settings = {
        "recipe": "data_and_rewards",
        "output": str(tmp_path / "run"),
        "prompts": sampled(tmp_path)["prompts"],
        "teacher": {"model": "teacher", **NOBODY},
        "student": {"model": "testbed"},
        "labels": sampled(tmp_path)["labels"],
        "reward": "judge",
    }
    found = shown(settings)
    assert list(dict.fromkeys(each.step for each in found)) == [
        "sample teacher",
        "vote",
        "judge responses",
        "prompt policy",
    ]
    of_student = [e for e in of(found, Exchange, "judge responses") if "⟨the policy's" in e.messages[-1]["content"]]
    assert len(of_student) == 2  # the judge rewards them all


@pytest.mark.parametrize("algorithm", ["sft", "ppo"])
def test_a_training_shows_what_is_learned_from(tmp_path, algorithm):
    judge = {"labels": {"judge": {"model": "j", **NOBODY}, "consensus": "given", "judges_all": True}}
    settings = rl_config(tmp_path, algorithm, rewards={"judged": {**judge, "weight": 1.0}})
    found = shown(settings, 2)
    if algorithm == "sft":
        assert all("<assistant>" in each.text for each in of(found, Shown, "demonstration"))
        assert len(found) == 2
    else:
        assert [each.step for each in found] == ["prompt policy"] * 2 + ["judge responses"] * 2
        assert all(each.text.endswith("<assistant> ") for each in found[:2])
        with pytest.raises(ConfigError, match="nothing to ask"):
            shown(settings, 2, ask=True)


def test_prompts_that_another_run_has_still_to_make_are_an_error(tmp_path):
    made = {"run": sampled(tmp_path), "changes": []}
    settings = rl_config(tmp_path, "ppo", prompts={"made_by": made, "run_file": "prompts.jsonl"})
    with pytest.raises(ConfigError, match="still to be made by another run"):
        shown(settings)


def test_the_command_shows_it_as_text_and_as_json(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(sampled(tmp_path)))
    done = cli("preview", config, "-n", "1", "samples=2", "temperatures=[1.0]")
    assert done.returncode == 0, done.stderr
    assert "(asked 2 times)\n--- user\nname two fruits but not plum .\n--- no answer: nobody has" in done.stdout
    rows = json.loads(cli("preview", config, "-n", "2", "--json").stdout)
    assert [row["text"] for row in rows if row["step"] == "vote"] == ["not held: not all responses are there"]


# -- evaluations ----------------------------------------------------------------------------------------


def test_a_judge_of_a_benchmark_is_shown_in_both_orders_and_nothing_is_written(tmp_path):
    rows = [{"prompt": f"question {n} ?", "chosen": "good", "rejected": "bad"} for n in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--benchmark", f"pairs={tmp_path / 'pairs.jsonl'}", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["evaluate", f"judge:j@{NOBODY['base_url']}", *asked, "--preview", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["record"].split(":")[1:] for row in found] == [["0", "1"], ["1", "0"]] * 2
    assert all(row["source"] == UNKNOWN for row in found)
    with pytest.raises(ConfigError, match="nobody is asked: baseline:length is no judge"):
        CliRunner().invoke(app, ["evaluate", "baseline:length", *asked, "--preview", "2"], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_a_judge_of_a_policy_is_shown_with_the_response(tmp_path):
    reference = [{"idx": n, "instruction": f"question {n}", "output": f"reference {n}"} for n in range(3)]
    answers = [{"prompt": f"question {n}", "response": f"answer {n}"} for n in range(3)]
    for name, rows in {"reference": reference, "responses": answers}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--benchmark", f"alpaca_eval={tmp_path / 'reference.jsonl'}", "--judge", f"j@{NOBODY['base_url']}"]
    asked += ["--output", str(tmp_path / "out"), "--preview", "2"]
    done = CliRunner().invoke(app, ["policy", "evaluate", str(tmp_path / "responses.jsonl"), *asked])
    assert done.exit_code == 0, done.output
    assert done.stdout.count("=== policy: judge: j, ") == 2
    assert "answer 1" in done.stdout
    assert "answer 2" not in done.stdout
    assert not (tmp_path / "out").exists()
