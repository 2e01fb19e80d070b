"""Cards as the Hub reads them, and a run that is sent to a stand-in for the Hub on loopback."""

import base64
import json
import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import DatasetCard, ModelCard
from micro import cli, write_config
from rl.micro_rl import rl_config

from reward_distiller.config import parse_run
from reward_distiller.errors import ConfigError, PublishError
from reward_distiller.recipes.policy import run_policy
from reward_distiller.recipes.publishing import planned
from reward_distiller.testbed.parts import TestbedParts

TOKEN = "hf_of_nobody_at_all"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    done = cli("run", write_config(folder, evaluation={"testbed_prompts": 20, "held_out": 0.2}))
    assert done.returncode == 0, done.stderr
    return folder / "run"


@contextmanager
def hub(status=200):
    """Takes what is sent, as the Hub's API does: repositories by name, and of each the files of its commits."""
    got = {"created": [], "files": {}, "tokens": set()}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got["tokens"].add(self.headers["Authorization"])
            if status != 200:
                return self.answer({"error": "not yours"}, status)
            if self.path == "/api/repos/create":
                asked = json.loads(body)
                got["created"].append(asked)
                return self.answer({"url": f"{self.server.url}/{asked['organization']}/{asked['name']}"})
            if "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                return self.answer({"files": modes})
            if self.path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            assert "/commit/main" in self.path
            lines = [json.loads(line) for line in body.splitlines()]
            files = {line["value"]["path"]: line["value"]["content"] for line in lines if line["key"] == "file"}
            got["files"][self.path.removesuffix("/commit/main")] = {n: base64.b64decode(t) for n, t in files.items()}
            return self.answer(
                {"commitUrl": f"{self.server.url}/me/it/commit/{'0' * 40}", "commitOid": "0" * 40, "hookOutput": ""}
            )

        def do_GET(self):
            self.answer({}, 404)

        def answer(self, value, code=200):
            text = json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.url, got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pushed(run, *arguments, url="http://127.0.0.1:9", token=TOKEN, **variables):
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", **variables}
    environment |= {"HF_TOKEN": token} if token else {}
    return cli("push", run, "me/my-rewards", *arguments, env=environment)


def test_the_hub_reads_the_cards(run):
    results = json.loads((run / "results.json").read_text())
    card = ModelCard((run / "model" / "README.md").read_text())
    assert card.data.library_name == "transformers"
    found = {(each.dataset_type, each.metric_type): each.metric_value for each in card.data.eval_results}
    assert found["testbed", "average"] == pytest.approx(results["testbed"]["average"]["value"], abs=1e-3)
    assert found["held_out", "accuracy"] == pytest.approx(results["held_out"]["accuracy"]["value"], abs=1e-3)
    assert not any(metric == "longer_response" for _, metric in found)
    assert "restrict training" in card.text
    assert "No licence is stated" in card.text
    data = DatasetCard((run / "data_card.md").read_text())
    assert data.data.configs[0]["data_files"] == [{"split": "train", "path": "pairs.jsonl"}]
    pairs = [json.loads(line) for line in (run / "pairs.jsonl").read_text().splitlines()]
    assert f"**Pairs:** {len(pairs)} (" in data.text
    assert f"{len({pair['prompt_id'] for pair in pairs})} prompts; SHA-256" in data.text
    for column in pairs[0]:
        assert f"`{column}`" in data.text


def test_a_policy_has_a_card_with_what_was_maximised_and_what_that_did(tmp_path):
    config = parse_run(rl_config(tmp_path, "ppo"))
    results = run_policy(config, TestbedParts(config.testbed, config.seed))
    card = ModelCard((tmp_path / "run" / "model" / "README.md").read_text())
    found = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert found["quality"] == pytest.approx(results["policy"]["quality"]["value"], abs=1e-3)
    assert "**Maximised:** 1 x rule (function)" in card.text
    assert "30 prompts; SHA-256" in card.text
    publication = planned(tmp_path / "run", "me/policy")
    assert "responses.jsonl" in publication.stays
    assert "README.md" in publication.repositories[0].as_dict()["files"]


def test_a_dry_run_says_what_would_go_and_what_stays_and_sends_nothing(run):
    with hub() as (url, got):
        done = pushed(run, "--data", "me/my-pairs", url=url)
        as_json = json.loads(pushed(run, "--json", url=url).stdout)
    assert done.returncode == 0, done.stderr
    assert "model me/my-rewards: " in done.stdout
    assert "dataset me/my-pairs: 2 files" in done.stdout
    assert "nothing is sent" in done.stdout
    assert "stays here: balance.json, config.yaml, environment.json" in done.stdout
    assert as_json["sent"] == []
    assert "pairs.jsonl" in as_json["stays"]
    assert got == {"created": [], "files": {}, "tokens": set()}


def test_what_is_sent_is_the_model_and_the_pairs_with_cards_and_licences(run):
    with hub() as (url, got):
        options = ("--data", "me/my-pairs", "--license", "apache-2.0", "--data-license", "cc-by-4.0", "--private")
        done = pushed(run, *options, "--yes", url=url)
    assert done.returncode == 0, done.stderr
    assert [(each["name"], each.get("type", "model")) for each in got["created"]] == [
        ("my-rewards", "model"),
        ("my-pairs", "dataset"),
    ]
    assert got["tokens"] == {f"Bearer {TOKEN}"}
    model, data = got["files"]["/api/models/me/my-rewards"], got["files"]["/api/datasets/me/my-pairs"]
    here = {p.name: p.read_bytes() for p in (run / "model").iterdir()}
    assert model.keys() == here.keys()
    assert all(model[name] == text for name, text in here.items() if name != "README.md")
    assert data["pairs.jsonl"] == (run / "pairs.jsonl").read_bytes()
    card = ModelCard(model["README.md"].decode())
    assert (card.data.license, card.data.model_name) == ("apache-2.0", "my-rewards")
    assert "**Licence:** apache-2.0" in card.text
    assert DatasetCard(data["README.md"].decode()).data.license == "cc-by-4.0"


def test_a_hub_that_refuses_or_is_not_there_is_one_clear_error(run):
    with hub(status=403) as (url, _):
        refused = pushed(run, "--yes", url=url)
    assert refused.returncode == 17
    assert "the Hub did not take it" in refused.stderr
    assert TOKEN not in refused.stderr
    assert "Traceback" not in refused.stderr
    gone = pushed(run, "--yes")
    assert gone.returncode == 17
    assert "Traceback" not in gone.stderr


def test_secrets_unfinished_runs_and_names_that_are_none_are_refused(run, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="no repository's name"):
        planned(run, "me/my rewards")
    with pytest.raises(PublishError, match="no finished run"):
        planned(tmp_path, "me/it")
    monkeypatch.setenv("HF_TOKEN", json.loads((run / "pairs.jsonl").read_text().splitlines()[0])["id"])
    planned(run, "me/it")
    with pytest.raises(PublishError, match=r"pairs\.jsonl: it holds the value of HF_TOKEN"):
        planned(run, "me/it", "me/pairs")
