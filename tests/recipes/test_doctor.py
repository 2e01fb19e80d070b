"""The doctor: each finding against a real thing that is as it should be, and one that is wrong on purpose."""

import fcntl
import json
import os
import socket
import time

import pytest
import tiny
import yaml
from micro import cli, micro_config, write_config
from running import save_model

from reward_distiller.config import load_run, parse_config, parse_run
from reward_distiller.model.memory import Memory
from reward_distiller.recipes.doctor.diagnosis import diagnose
from reward_distiller.recipes.doctor.endpoints import check_endpoints
from reward_distiller.recipes.doctor.extras import EXTRAS, check_extras
from reward_distiller.recipes.doctor.machine import GIB, check_machine
from reward_distiller.recipes.doctor.places import check_data, check_output
from reward_distiller.recipes.doctor.student import check_policy, check_student, fit
from reward_distiller.testbed.server import serve

KEY = "sk-not-to-be-shown"


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def with_teacher(folder, **teacher):
    return parse_config(micro_config(folder, teacher={"model": "teacher", "price": None, **teacher}))


def only(findings, start):
    (found,) = [f for f in findings if f.check.startswith(start)]
    return found


# -- the command ------------------------------------------------------------------------------------


def test_a_testbed_run_is_fine_and_nothing_is_left_behind(tmp_path):
    config = write_config(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = cli("doctor", config)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning"}
    assert any(line.startswith("ok       teacher teacher at testbed: ") for line in lines)
    assert sorted(tmp_path.rglob("*")) == before


def test_problems_have_an_exit_code_of_their_own_and_come_as_json(tmp_path):
    config = write_config(tmp_path, prompts={"path": str(tmp_path / "none.jsonl")})
    done = cli("doctor", config, "--json")
    assert done.returncode == 16
    found = json.loads(done.stdout)
    assert [f["check"] for f in found if f["level"] == "problem"] == ["prompts"]
    assert "1 problem would stop a run" in done.stderr


def test_without_a_config_the_machine_is_looked_at():
    names = [f.check for f in diagnose()]
    assert names[:2] == ["python", "torch"]
    assert names[-1] == "other extras"


def test_runs_that_it_stands_on_are_looked_at_too(tmp_path):
    under = write_config(tmp_path, teacher={"model": "teacher", "base_url": "http://127.0.0.1:9/v1"})
    over = tmp_path / "rl.yaml"
    policy = {"recipe": "rl", "algorithm": "ppo", "output": str(tmp_path / "rl"), "policy": {"model": "testbed"}}
    policy |= {"prompts": {"testbed": {"count": 4}}, "rewards": {"rm": {"made_by": under.name}}}
    over.write_text(yaml.safe_dump(policy))
    assert only(diagnose(load_run(over)), "teacher teacher at http://127.0.0.1:9/v1").level == "problem"


# -- endpoints --------------------------------------------------------------------------------------


def test_an_endpoint_is_asked_for_its_models_and_for_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with serve(api_key=KEY) as server:
        run = with_teacher(tmp_path, base_url=server.base_url, api_key_env="TEACHER_KEY")
        found = only(check_endpoints(run), f"teacher teacher at {server.base_url}")
        assert (found.level, found.found) == ("ok", "there, TEACHER_KEY is set, and knows the model")
        assert not server.asked
        assert server.written == 0


def test_a_wrong_key_a_missing_one_and_an_unknown_model_are_named_and_no_key_is_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", KEY)
    with serve(api_key="another") as server:
        keyed = {"base_url": server.base_url, "api_key_env": "TEACHER_KEY"}
        rejected = only(check_endpoints(with_teacher(tmp_path, **keyed)), "teacher")
        assert (rejected.level, rejected.found) == ("problem", "rejects the key in TEACHER_KEY (HTTP 401)")
        monkeypatch.delenv("TEACHER_KEY")
        unset = only(check_endpoints(with_teacher(tmp_path, **keyed)), "teacher")
        assert unset.level == "problem"
        assert "TEACHER_KEY is not set" in unset.line
        assert KEY not in rejected.line + unset.line
    with serve() as server:
        unknown = only(check_endpoints(with_teacher(tmp_path, model="gpt-9", base_url=server.base_url)), "teacher")
        assert unknown.level == "warning"
        assert "it lists" in unknown.found


def test_a_server_that_is_not_there_and_one_that_never_answers(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        start = time.monotonic()
        hung = only(check_endpoints(with_teacher(tmp_path, base_url=url, timeout=0.3)), "teacher")
        assert time.monotonic() - start < 5
        assert hung.level == "problem"
    gone = only(check_endpoints(with_teacher(tmp_path, base_url=url)), "teacher")
    assert gone.level == "problem"
    assert "cannot be reached" in gone.found


def test_what_is_no_list_of_models_is_a_warning(tmp_path):
    with serve() as server:
        found = only(check_endpoints(with_teacher(tmp_path, base_url=f"{server.base_url}/elsewhere")), "teacher")
    assert found.level == "warning"
    assert "HTTP 404" in found.found


def test_a_program_to_launch_is_looked_for(tmp_path):
    for program, level in (("python3", "ok"), ("no-such-vllm", "problem")):
        run = with_teacher(tmp_path, launch="vllm", launch_command=[program])
        assert only(check_endpoints(run), "teacher").level == level


# -- data, output, extras, machine ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "level"),
    [
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\nnot a row', "ok"),
        ('{"prompt": "a", "chosen": "b"}', "problem"),
        ("nonsense", "problem"),
        ("", "problem"),
    ],
)
def test_the_first_row_of_a_file_is_read(tmp_path, rows, level):
    file = tmp_path / "pairs.jsonl"
    file.write_text(rows)
    labeled = micro_config(tmp_path, scenario="labeled", pairs={"path": str(file)})
    run = parse_config({k: v for k, v in labeled.items() if k not in ("prompts", "candidates")})
    assert levels(check_data(run)) == {"pairs": level}


def test_an_output_that_another_run_holds_or_that_is_a_file(tmp_path):
    run = parse_config(micro_config(tmp_path))
    assert levels(check_output(run)) == {"output": "ok", "ledger": "ok"}
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert levels(check_output(run)) == {"output": "problem", "ledger": "ok"}
    assert levels(check_output(run)) == {"output": "ok", "ledger": "ok"}
    (tmp_path / "file").write_text("")
    held = parse_config(micro_config(tmp_path, output=str(tmp_path / "file" / "run")))
    assert levels(check_output(held)) == {"output": "problem", "ledger": "problem"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_closed_folder(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    run = parse_config(micro_config(tmp_path, output=str(tmp_path / "closed" / "run")))
    assert levels(check_output(run)) == {"output": "problem", "ledger": "problem"}


def test_extras_that_a_config_needs(tmp_path, monkeypatch):
    training = {"learning_rate": 1e-3, "log_to": ["wandb"]}
    run = parse_config(micro_config(tmp_path, training=training, prompts={"hub": "some/data"}))
    monkeypatch.setitem(EXTRAS, "wandb", ("no_such_package",))
    found = {f.check: f for f in check_extras([run])}
    assert found["extra wandb"].level == "problem"
    assert found["extra wandb"].mend == "pip install 'reward-distiller[wandb]'"
    assert "prompts.hub" in found["extra hub"].found


def test_every_extra_of_the_package_is_known():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"dev"}


def test_a_full_disk_is_a_problem(tmp_path, monkeypatch):
    assert levels(check_machine(tmp_path, tmp_path))["disk of the output"] != "problem"
    monkeypatch.setattr("reward_distiller.recipes.doctor.machine.NO_DISK", 2**60)
    assert levels(check_machine(tmp_path, tmp_path))["disk of the output"] == "problem"


# -- the student ------------------------------------------------------------------------------------


def saved(folder, template):
    tokenizer = tiny.byte_tokenizer(template)
    tiny.tiny_lm(len(tokenizer) + 1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_student_of_a_folder_is_looked_at_without_its_weights(tmp_path):
    path = saved(tmp_path / "lm", tiny.CHATML)
    (tmp_path / "lm" / "model.safetensors").unlink()
    run = parse_config(micro_config(tmp_path, student={"model": path}))
    assert set(levels(check_student(run)).values()) == {"ok"}
    gone = parse_config(micro_config(tmp_path, student={"model": str(tmp_path / "none")}))
    assert levels(check_student(gone)) == {"student": "problem"}


def test_a_student_that_does_not_fit(tmp_path):
    path = saved(tmp_path / "lm", tiny.CHATML)
    config = json.loads((tmp_path / "lm" / "config.json").read_text())
    large = {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672, "num_attention_heads": 64}
    (tmp_path / "lm" / "config.json").write_text(json.dumps({**config, **large, "head_dim": 128}))
    run = parse_config(micro_config(tmp_path, student={"model": path}))
    assert levels(check_student(run))["student's memory"] == "problem"


def test_a_policy_needs_a_reward_model_that_is_one(tmp_path):
    lm, reward_model = saved(tmp_path / "lm", tiny.CHATML), save_model(tmp_path / "rm")
    rewards = {"good": {"model": str(reward_model)}, "lm": {"model": lm}, "gone": {"model": str(tmp_path / "none")}}
    rl = {"recipe": "rl", "algorithm": "ppo", "output": str(tmp_path / "run"), "policy": {"model": lm}}
    run = parse_run({**rl, "prompts": {"testbed": {"count": 2}}, "rewards": rewards})
    assert levels(check_policy(run)) == {
        "rewards.good": "ok",
        "rewards.lm": "problem",
        "rewards.gone": "problem",
        "policy's chat template": "ok",
        "policy's memory": "ok",
    }


def test_a_policy_that_does_not_fit_with_its_reward_model_and_what_it_stands_on(tmp_path):
    lm, large = saved(tmp_path / "lm", tiny.CHATML), saved(tmp_path / "large", tiny.CHATML)
    config = json.loads((tmp_path / "large" / "config.json").read_text())
    size = {"hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 28672, "num_attention_heads": 64}
    (tmp_path / "large" / "config.json").write_text(json.dumps({**config, **size, "head_dim": 128}))
    rl = {"recipe": "rl", "algorithm": "ppo", "output": str(tmp_path / "run"), "policy": {"model": lm}}
    rl |= {"prompts": {"testbed": {"count": 2}}, "rewards": {"rule": {"length": 1.0}}}
    assert levels(check_policy(parse_run(rl)))["policy's memory"] == "ok"
    rewarded = micro_config(tmp_path, student={"model": large})
    by_large = parse_run({**rl, "rewards": {"rm": {"made_by": {"run": rewarded}}}})
    assert levels(check_policy(by_large))["policy's memory"] == "problem"
    first = {**rl, "policy": {"model": large}}
    on_large = parse_run({**rl, "policy": {"made_by": {"run": first}}})
    assert levels(check_policy(on_large))["policy's memory"] == "problem"


def test_what_is_tight_is_a_warning():
    need = Memory(2 * GIB, 2 * GIB, 4 * GIB, GIB, 0)
    assert [fit("memory", need, (have * GIB, "cuda"), "").level for have in (9, 12, 20)] == ["problem", "warning", "ok"]
