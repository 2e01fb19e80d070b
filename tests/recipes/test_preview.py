"""What a preview shows is what a run sends, and it buys nothing unless it is told to."""

import json
import sqlite3

import pytest
from micro import cli, micro_config, write_config

from reward_distiller.config import parse_config
from reward_distiller.errors import ConfigError
from reward_distiller.methods import METHODS
from reward_distiller.recipes.preview.exchanges import UNKNOWN
from reward_distiller.recipes.preview.runs import preview
from reward_distiller.recipes.reward_model import construct_into
from reward_distiller.testbed.parts import TestbedParts
from reward_distiller.testbed.server import serve

STEPS = ["candidates", "annotate", "reference", "refine", "score"]


def parts_of(config):
    return TestbedParts(config.testbed, config.seed)


def shown(config, count=2, **options):
    return preview(config, parts_of(config), count, **options)


def at_server(folder, url, **changes):
    """Four candidates and a teacher over HTTP, with a key that is not set."""
    keyed = {"base_url": url, "api_key_env": "NO_SUCH_KEY"}
    config = micro_config(folder, **changes)
    config["candidates"] = [{**model, **keyed} for model in config["candidates"]]
    return parse_config(config | {"teacher": {"model": "teacher", **keyed}})


def labeled(folder, url, **changes):
    config = {**micro_config(folder), "scenario": "labeled", "pairs": {"testbed": {"count": 6}}, **changes}
    config |= {"teacher": {"model": "teacher", "base_url": url}}
    return parse_config({k: v for k, v in config.items() if k not in ("prompts", "candidates")})


def in_order(exchanges):
    return list(dict.fromkeys(exchange.step for exchange in exchanges))


def sent(folder):
    """The first request for each answer in a run's ledger."""
    query = "SELECT step, request FROM requests JOIN attempts USING (key)"
    with sqlite3.connect(folder / "run" / "ledger.sqlite") as db:
        found = [(step, json.loads(text)) for step, text in db.execute(query)]
    return sorted(
        json.dumps([step, {k: v for k, v in request.items() if k != "sample"}], sort_keys=True)
        for step, request in found
        if not request["sample"]
    )


def test_the_testbed_answers_and_nothing_is_written(tmp_path):
    found = shown(parse_config(micro_config(tmp_path)), 3)
    assert in_order(found) == STEPS
    assert {e.source for e in found} == {"the testbed"}
    assert all(e.answers for e in found)
    assert len([e for e in found if e.step == "candidates"]) == 3 * 4
    assert not list(tmp_path.iterdir())


def test_without_answers_every_step_is_shown_with_stand_ins_and_no_request_leaves(tmp_path):
    with serve() as server:
        found = shown(at_server(tmp_path, server.base_url))
        assert in_order(found) == STEPS
        assert {e.source for e in found} == {UNKNOWN}
        assert not server.asked
    texts = {e.step: e.messages[-1]["content"] for e in found}
    assert "⟨candidates: what" in texts["annotate"]
    assert "⟨reference: what teacher says⟩" in texts["refine"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("both_orders", [False, True])
@pytest.mark.parametrize("scoring", ["self_calibrated", "pairwise"])
def test_labeled_pairs_go_on_whichever_is_shown_first(tmp_path, both_orders, scoring):
    changes = {"annotation": {"both_orders": both_orders}, "rm_distiller": {"beta": 0.0, "scoring": scoring}}
    found = shown(labeled(tmp_path, "http://127.0.0.1:9/v1", **changes), 6)
    assert in_order(found) == STEPS[1:]
    assert len([e for e in found if e.step == "refine"]) == 6


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_shown_to_its_last_step(tmp_path, method):
    steerlm = {"attributes": {"overall": 1.0, "honesty": 0.5}}
    config = at_server(tmp_path, "http://127.0.0.1:9/v1", method=method, steerlm=steerlm)
    last = {"rm_distiller": "score", "edit_aligned": "score", "rmboost": "rewrite", "steerlm": "attributes"}
    last |= {"cloud": "critique", "synrm": "critique"}
    assert in_order(shown(config))[-1] in (last.get(method, "annotate"), "reference")


def test_what_is_shown_is_what_is_sent_and_what_the_ledger_holds_comes_back(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_SUCH_KEY", "key")
    with serve(api_key="key") as server:
        config = at_server(tmp_path, server.base_url, prompts={"testbed": {"count": 2}})
        (tmp_path / "run").mkdir()
        construct_into(tmp_path / "run", config, parts_of(config))
    monkeypatch.delenv("NO_SUCH_KEY")
    found = shown(config)
    assert {e.source for e in found} == {"the ledger"}
    assert in_order(found) == STEPS
    asked = [json.dumps([e.step, {**e.request, "messages": e.messages}], sort_keys=True) for e in found]
    assert sent(tmp_path) == sorted(asked)


def test_asked_for_it_buys_into_the_run_s_ledger_and_the_run_pays_for_none_of_it_again(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_SUCH_KEY", "key")
    with serve(api_key="key") as server:
        config = at_server(tmp_path, server.base_url, prompts={"testbed": {"count": 2}})
        bought = shown(config, ask=True)
        assert {e.source for e in bought} == {"bought now"}
        written = server.written
        assert written >= len(bought)
        (tmp_path / "run").mkdir(exist_ok=True)
        construct_into(tmp_path / "run", config, parts_of(config))
        assert server.written == written
        again = shown(config)
        assert [(e.step, e.record, e.answers, e.value) for e in again] == [
            (e.step, e.record, e.answers, e.value) for e in bought
        ]


def test_an_answer_that_cannot_be_read_is_shown_with_the_reason(tmp_path):
    teacher = {"model": "teacher", "base_url": "testbed", "max_asks": 2}
    config = parse_config(micro_config(tmp_path, teacher=teacher, testbed={"garble": 1.0}))
    garbled = [e for e in shown(config) if e.step == "annotate"]
    assert garbled
    assert all(len(e.answers) == 2 and e.reason and e.value is None for e in garbled)


def test_a_run_that_asks_nobody_says_so(tmp_path):
    config = labeled(tmp_path, "testbed")
    plain = config.rm_distiller.model_copy(update={"refine": False})
    with pytest.raises(ConfigError, match="nobody is asked"):
        shown(config.model_copy(update={"teacher": None, "rm_distiller": plain}))


def test_the_command_shows_text_without_terminal_escapes(tmp_path):
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(json.dumps({"prompt": "one\ntwo \x1b[31m"}) + "\n")
    config = write_config(
        tmp_path, prompts={"path": str(rows)}, teacher={"model": "t", "base_url": "http://127.0.0.1:9/v1"}
    )
    changed = (
        "candidates=[{model: a, base_url: 'http://127.0.0.1:9/v1'}, {model: b, base_url: 'http://127.0.0.1:9/v1'}]"
    )
    done = cli("preview", config, changed, "-n", "1")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "--- user\none\ntwo \\x1b[31m\n--- no answer: nobody has answered yet\n" in done.stdout
    assert "=== score: t, " in done.stdout
