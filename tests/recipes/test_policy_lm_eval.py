"""`policy lm-eval`: lm-eval itself on a tiny policy, and on a server on loopback that gives planted responses."""

import json
import re
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny
from typer.testing import CliRunner

from reward_distiller.cli.main import app
from reward_distiller.errors import ConfigError, DataError, EndpointError, MissingExtra, ModelError
from reward_distiller.recipes.lm_eval_models import PolicyPlace
from reward_distiller.recipes.policy_lm_eval import Asked, evaluate_by_lm_eval

KEY = "sk-planted-0123456789"


@pytest.fixture(autouse=True)
def needs_lm_eval():
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = tiny.byte_tokenizer()
    lm = tiny.tiny_lm(len(tokenizer))
    lm.generation_config.repetition_penalty = 9.0  # a checkpoint's own settings, which do not count
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def data(tmp_path):
    sums = [
        {"question": f"What is {n} + {n}?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}
        for n in range(6)
    ]
    kinds = ["adding operation", "critical thinking"]
    plus = [
        {"question": f"What is {n} + {n}, {kind}?", "answer": "None" if "think" in kind else str(2 * n)}
        | {"perturbation_type": kind, "seed_question": f"seed {n}"}
        for n in range(3)
        for kind in kinds
    ]
    choices = [
        {"question_id": n, "question": f"Which is {n}?", "options": list("0123"), "answer": "ABCD"[n], "category": c}
        for n, c in enumerate(["law", "law", "math", "math"])
    ]
    files = {"gsm8k/test": sums, "gsm8k/train": sums, "gsm_plus/gsmplus_testmini": plus, "mmlu_pro/questions": choices}
    for name, rows in files.items():
        file = tmp_path / "data" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "data")


@contextmanager
def server(answer):
    """Chat and plain completions by a function of the request; what was asked is in `asked`."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "headers": dict(self.headers), **request})
            text = answer(request)
            choice = {"index": 0, "finish_reason": "stop"}
            choice |= {"message": {"role": "assistant", "content": text}} if "messages" in request else {"text": text}
            body = json.dumps({"object": "chat.completion", "model": request["model"], "choices": [choice]}).encode()
            self.send_response(500 if text == "FAIL" else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}/v1", asked
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def solve(request):
    """Right but for: 2 + 2 in GSM8K, no response to 3 + 3; any number in critical thinking's seed 1; law's choices."""
    text = (
        request["messages"][-1]["content"] if "messages" in request else request["prompt"].rpartition("Question: ")[2]
    )
    if found := re.search(r"What is (\d+) \+ \d+(, critical)?", text):
        number = int(found[1])
        if found[2]:
            return "The answer is 2." if number == 1 else "It cannot be determined."
        if "," not in text.splitlines()[0] and number in (2, 3):
            return "The answer is 5." if number == 2 else None
        return f"{number} + {number} = {2 * number}.\nThe answer is {2 * number}."
    number = int(re.search(r"Which is (\d)", text)[1])
    return f"The answer is ({'ABCD'[number] if number > 1 else 'J'})."


def figures(results, name):
    return {key: figure["value"] for key, figure in results["benchmarks"][name]["figures"].items()}


def rows(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def test_planted_responses_have_the_figures_that_they_should(data, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", KEY)
    with server(solve) as (url, asked):
        place = PolicyPlace("planted", url, api_key_env="PLANTED_KEY", concurrent=3)
        results = evaluate_by_lm_eval(place, Asked(data=data), tmp_path / "out")
    assert figures(results, "gsm8k") == {"accuracy": pytest.approx(100 * 4 / 6, abs=1e-3)}
    assert figures(results, "gsm_plus") == {
        "accuracy": pytest.approx(100 * 5 / 6, abs=1e-3),
        "accuracy.with_answer": 100,
        "accuracy.adding operation": 100,
        "accuracy.critical thinking": pytest.approx(100 * 2 / 3, abs=1e-3),
    }
    assert figures(results, "mmlu_pro") == {"accuracy": 50, "accuracy.law": 0, "accuracy.math": 100}
    assert results["benchmarks"]["gsm8k"]["notes"] == ["1 responses are empty"]
    assert {request["path"] for request in asked} == {"/v1/chat/completions"}
    assert {request["headers"]["Authorization"] for request in asked} == {f"Bearer {KEY}"}
    assert all(request["temperature"] == 0 and request["max_tokens"] == 1024 for request in asked)
    kept = {row["id"]: row for row in rows(tmp_path / "out")}
    assert len(kept) == len(asked) == 16
    wrong = kept["gsm8k:3"]
    assert (wrong["answer"], wrong["gold"], wrong["right"]) == ("5", "4", False)
    assert wrong["prompt"][-1]["content"].startswith("Question: What is 2 + 2?")
    assert kept["gsm8k:4"]["response"] == ""
    assert kept["gsm_plus:2"]["answer"] == "cannot be answered"
    written = (tmp_path / "out" / "results.json").read_text()
    assert json.loads(written) == results
    assert KEY not in written + "".join(capfd.readouterr())


def test_shots_are_turns_of_the_chat_and_a_limit_holds(data, tmp_path):
    with server(solve) as (url, asked):
        evaluate_by_lm_eval(PolicyPlace("m", url), Asked(["gsm8k"], data, limit=2, shots=2), tmp_path / "out")
    assert len(asked) == 2
    roles = [message["role"] for message in asked[0]["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert asked[0]["messages"][1]["content"] == "0+0=0\nThe answer is 0."


def test_plain_completions_are_asked_in_text_and_stop_at_the_next_question(data, tmp_path):
    with server(solve) as (url, asked):
        place = PolicyPlace("m", f"{url}/completions")
        results = evaluate_by_lm_eval(place, Asked(["mmlu_pro", "gsm8k"], data, max_tokens=7), tmp_path / "out")
    assert figures(results, "mmlu_pro")["accuracy.math"] == 100
    assert asked[0]["path"] == "/v1/completions"
    assert asked[0]["max_tokens"] == 7
    assert "\nQuestion:" in asked[0]["stop"]


def test_no_server_gets_a_key_that_was_not_named_for_it(data, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with server(solve) as (url, asked):
        evaluate_by_lm_eval(PolicyPlace("m", url), Asked(["gsm8k"], data, limit=1), tmp_path / "out")
    assert not any(KEY in value for request in asked for value in request["headers"].values())
    with pytest.raises(ConfigError, match="ABSENT_KEY is not set"):
        evaluate_by_lm_eval(PolicyPlace("m", url, "ABSENT_KEY"), Asked(["gsm8k"], data), tmp_path / "other")


def test_a_server_that_fails_leaves_nothing_and_tells_no_key(data, tmp_path, capfd, caplog, monkeypatch):
    monkeypatch.setenv("PLANTED_KEY", KEY)
    monkeypatch.setattr("reward_distiller.recipes.lm_eval_models.RETRIES", 1)
    with server(lambda _: "FAIL") as (url, _):
        place = PolicyPlace("m", url, "PLANTED_KEY")
        with pytest.raises(EndpointError, match=r"did not answer .*500"):
            evaluate_by_lm_eval(place, Asked(["gsm8k"], data), tmp_path / "out")
    with pytest.raises(EndpointError, match="did not answer"):  # nobody listens there any more
        evaluate_by_lm_eval(place, Asked(["gsm8k"], data), tmp_path / "out")
    assert sorted(each.name.partition("-")[0] for each in tmp_path.iterdir()) == ["data", "out.responses"]
    assert KEY.encode() not in next(tmp_path.glob("out.responses*")).read_bytes()
    assert "[PLANTED_KEY]" in caplog.text  # lm-eval's errors repeat the headers of a request
    assert KEY not in caplog.text + "".join(capfd.readouterr())
    assert "never retrieved" not in caplog.text


def test_an_evaluation_that_was_cut_off_asks_for_what_is_missing_only(data, tmp_path, monkeypatch):
    monkeypatch.setattr("reward_distiller.recipes.lm_eval_models.RETRIES", 1)
    with server(solve) as (url, asked):
        place, tasks = PolicyPlace("m", url, concurrent=1), Asked(["gsm8k", "gsm_plus"], data)
        whole = evaluate_by_lm_eval(place, tasks, tmp_path / "whole")
    every = len(asked)
    down = []
    with server(lambda request: "FAIL" if len(answered) >= 5 and not down else solve(request)) as (url, answered):
        place = PolicyPlace("m", url, concurrent=1)
        with pytest.raises(EndpointError, match="did not answer"):
            evaluate_by_lm_eval(place, tasks, tmp_path / "out")
        down.append("no more")
        before = len(answered)
        found = evaluate_by_lm_eval(place, tasks, tmp_path / "out")
    assert len(answered) - before == every - 4  # the fifth answer was the first failure
    assert found["benchmarks"] == whole["benchmarks"]
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "out", "whole"]


def test_a_local_policy_is_asked_through_its_chat_template(policy, data, tmp_path):
    done = CliRunner().invoke(
        app,
        [
            "policy",
            "lm-eval",
            policy,
            "--data",
            data,
            "--limit",
            "2",
            "--max-tokens",
            "12",
            "-o",
            str(tmp_path / "out"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "| accuracy |" in done.output
    kept = rows(tmp_path / "out")
    assert [row["task"] for row in kept] == ["gsm8k"] * 2 + ["gsm_plus"] * 2 + ["mmlu_pro"] * 2
    assert all(row["prompt"].startswith("<|im_start|>user\nQuestion: ") for row in kept)
    assert all(row["prompt"].endswith("<|im_end|>\n<|im_start|>assistant\n") for row in kept)
    again = CliRunner().invoke(app, ["policy", "lm-eval", policy, "--data", data, "-o", str(tmp_path / "out")])
    assert isinstance(again.exception, ConfigError)
    assert "is there already" in str(again.exception)
    assert rows(tmp_path / "out") == kept


def test_a_local_policys_responses_are_its_own(policy, data, tmp_path):
    """What lm-eval gets in padded batches is what the policy gives greedily, one by one."""
    from reward_distiller.records import Message
    from reward_distiller.rl.policy import Policy

    evaluate_by_lm_eval(PolicyPlace(policy), Asked(["gsm8k"], data, max_tokens=20), tmp_path / "out")
    ours = Policy.from_pretrained(policy, 20)
    for row in rows(tmp_path / "out"):
        asked = row["prompt"].removeprefix("<|im_start|>user\n").partition("<|im_end|>")[0]
        opening = ours.opening([Message(role="user", content=asked).model_dump()])
        (sampled,) = ours.sample([opening], greedy=True)
        assert row["response"] == ours.chat.tokenizer.decode(sampled.ids, skip_special_tokens=True)


def test_prompts_that_the_model_cannot_hold_are_counted(policy, data, tmp_path):
    asked = Asked(["gsm8k"], data, limit=2, shots=4, max_tokens=8)
    results = evaluate_by_lm_eval(PolicyPlace(policy), asked, tmp_path / "out")
    assert results["benchmarks"]["gsm8k"]["notes"] == ["2 prompts were too long for the model, and cut"]
    with pytest.raises(ConfigError, match="may have 1024 tokens, and the model holds 512"):
        evaluate_by_lm_eval(PolicyPlace(policy), Asked(["gsm8k"], data), tmp_path / "other")


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        (Asked(["gsm8k", "mmlu"]), ConfigError, "'mmlu' is none of gsm8k, gsm_plus, mmlu_pro"),
        (Asked(["gsm8k", "gsm8k"]), ConfigError, "gsm8k twice"),
        (Asked([]), ConfigError, "none"),
        (Asked(["gsm8k"], data="nowhere"), DataError, "nowhere/gsm8k/test.jsonl"),
        (Asked(["gsm8k"], standard=True), DataError, "need the network"),
    ],
)
def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(asked, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(error, match=said):
        evaluate_by_lm_eval(PolicyPlace("no-such-policy"), asked, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shots_that_no_file_holds_and_a_folder_without_a_policy_are_errors(data, tmp_path):
    with pytest.raises(DataError, match=r"mmlu_pro/validation\.jsonl.*ask without shots"):
        evaluate_by_lm_eval(PolicyPlace("p"), Asked(["mmlu_pro"], data, shots=1), tmp_path / "out")
    with pytest.raises(ModelError):
        evaluate_by_lm_eval(PolicyPlace(data), Asked(["gsm8k"], data, max_tokens=8), tmp_path / "out")


def test_standard_tasks_are_lm_evals_own_data_prompts_and_grading(data, tmp_path, monkeypatch):
    """`openai/gsm8k` is a folder here, which is where the datasets library looks before it asks the Hub."""
    folder = tmp_path / "openai" / "gsm8k" / "main"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text((tmp_path / "data" / "gsm8k" / f"{split}.jsonl").read_text())
    (tmp_path / "openai" / "gsm8k" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train.jsonl\n"
        "  - split: test\n    path: main/test.jsonl\n---\n"
    )
    monkeypatch.chdir(tmp_path)
    with server(lambda request: "#### 4") as (url, asked):
        settings = Asked(["gsm8k"], standard=True, limit=5, shots=1)
        results = evaluate_by_lm_eval(PolicyPlace("m", url), settings, tmp_path / "out")
    assert len(asked) == 5
    assert figures(results, "gsm8k") == {"exact_match.strict-match": 20, "exact_match.flexible-extract": 20}
    assert {row["filter"] for row in rows(tmp_path / "out")} == {"strict-match", "flexible-extract"}


def test_without_lm_eval_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtra, match=r"pip install 'reward-distiller\[lm-eval\]'"):
        evaluate_by_lm_eval(PolicyPlace("p"), Asked(), tmp_path / "out")
