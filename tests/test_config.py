"""The config: what is not in the schema is an error that names the dotted key; overrides are YAML."""

from __future__ import annotations

import copy

import pytest
import yaml

from reward_distiller.config import dump_yaml, load_config, parse_config
from reward_distiller.errors import ConfigError
from reward_distiller.yaml_text import apply_override, parse_yaml

GOOD = {
    "output": "runs/x",
    "prompts": {"path": "a.jsonl"},
    "candidates": [{"model": "a"}, {"model": "b"}],
    "teacher": {"model": "t"},
    "student": {"model": "s"},
}


def changed(*overrides: str) -> dict:
    data = copy.deepcopy(GOOD)
    for override in overrides:
        apply_override(data, override)
    return data


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("colour=red", "colour"),
        ("training.epoch=2", "training.epoch"),
        ("candidates.1.sampling.temprature=0.5", "candidates.1.sampling.temprature"),
        ("teacher.sampling.stop=[x]", "teacher.sampling.stop"),
    ],
)
def test_an_unknown_key_is_named(override, key):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(override), where="a.yaml")
    assert f"{key}: unknown key" in str(caught.value)
    assert str(caught.value).startswith("a.yaml")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("seed=one", "seed"),
        ("seed=1.5", "seed"),
        ("seed='1'", "seed"),
        ("training.epochs=0", "training.epochs"),
        ("training.epochs=true", "training.epochs"),
        ("training.learning_rate=fast", "training.learning_rate"),
        ("rm_distiller.refine=1", "rm_distiller.refine"),
        ("rm_distiller.scoring=blind", "rm_distiller.scoring"),
        ("teacher.model=''", "teacher.model"),
        ("teacher.model=7", "teacher.model"),
        ("candidates.0.concurrency=0", "candidates.0.concurrency"),
        ("candidates=a", "candidates"),
        ("teacher.sampling.temperature=3", "teacher.sampling.temperature"),
        ("teacher.sampling.top_p=.nan", "teacher.sampling.top_p"),
        ("student=s", "student"),
        ("scenario=unlabelled", "scenario"),
    ],
)
def test_a_wrong_type_or_value_is_named_with_what_came(override, key):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(override))
    assert f"config: {key}: " in str(caught.value)
    assert "(got " in str(caught.value)


def test_a_huge_value_is_not_repeated_whole():
    with pytest.raises(ConfigError) as caught:
        parse_config({**GOOD, "seed": "x" * 1_000_000})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["prompts=null"], "takes `prompts`"),
        (["pairs={path: b.jsonl}"], "takes `prompts`"),
        (["teacher=null"], "`teacher`"),
        (["scenario=labeled"], "takes `pairs`"),
        (["prompts.hub=x"], "exactly one of path, hub, testbed and made_by"),
        (["prompts={}"], "exactly one of path, hub, testbed and made_by"),
        (["student={}"], "exactly one of model and from_scratch"),
        (["student.from_scratch={tokenizer: x}"], "exactly one of model and from_scratch"),
        (["rm_distiller={alpha: 0.6, beta: 0.4, kl_teacher: x}"], "below 1"),
        (["rm_distiller={beta: 0.1}"], "kl_teacher"),
    ],
)
def test_parts_that_do_not_go_together(overrides, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(changed(*overrides))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("seed=7", lambda c: c.seed, 7),
        ("training.learning_rate=1e-5", lambda c: c.training.learning_rate, 1e-5),
        ("training.learning_rate=3.0E-4", lambda c: c.training.learning_rate, 3e-4),
        ("rm_distiller.refine=false", lambda c: c.rm_distiller.refine, False),
        ("candidates.1.model=c", lambda c: c.candidates[1].model, "c"),
        ("candidates.0={model: d}", lambda c: c.candidates[0].model, "d"),
        ("candidates=[{model: e}, {model: f}]", lambda c: [m.model for m in c.candidates], ["e", "f"]),
        ("teacher.sampling.top_k=20", lambda c: c.teacher.sampling.top_k, 20),
        ("teacher.model=org/name=x", lambda c: c.teacher.model, "org/name=x"),
        ("teacher.chat_template_kwargs.enable_thinking=false", lambda c: c.teacher.chat_template_kwargs, None),
        ("ledger=null", lambda c: str(c.ledger_path), "runs/x/ledger.sqlite"),
        ("ledger=calls.sqlite", lambda c: str(c.ledger_path), "calls.sqlite"),
        ("prompts.columns.prompt=meta.q", lambda c: c.prompts.columns, {"prompt": "meta.q"}),
    ],
)
def test_overrides(override, get, value):
    found = get(parse_config(changed(override)))
    assert found == (value if value is not None else {"enable_thinking": False})


@pytest.mark.parametrize(
    "override",
    ["seed", "=1", ".seed=1", "training..epochs=1", "seed=[1", "candidates.2.model=x", "candidates.x=1", "output.x=1"],
)
def test_an_override_that_makes_no_sense_is_named(override):
    with pytest.raises(ConfigError) as caught:
        changed(override)
    assert repr(override) in str(caught.value)


def test_the_later_override_wins(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(GOOD))
    config = load_config(tmp_path / "a.yaml", ["seed=1", "seed=2", "teacher.retries=0"])
    assert (config.seed, config.teacher.retries, config.candidates[0].model) == (2, 0, "a")


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such config"), (b"a: [", "YAML"), (b"\xff\xfe\x00", "YAML"), (b"- a", "list"), (b"", "NoneType")],
)
def test_a_file_that_is_no_config(tmp_path, content, said):
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.yaml") as caught:
        load_config(path)
    assert said in str(caught.value)


def test_a_key_in_the_config_is_a_name_of_a_variable_only():
    for override in ("teacher.api_key=sk-1", "teacher.headers_env=[X]"):
        with pytest.raises(ConfigError):
            parse_config(changed(override))


def test_numbers_with_an_exponent_are_numbers_in_files_too(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1e-5\nb: 2E3\nc: e5\nd: 1.5e-3\n")
    assert parse_yaml(path.read_text()) == {"a": 1e-5, "b": 2000.0, "c": "e5", "d": 1.5e-3}


@pytest.mark.parametrize("key", ["stop.0.x", "stop.²", "stop.-1"])
def test_overrides_into_lists_of_plain_values_are_refused(key):
    with pytest.raises(ConfigError, match="override"):
        apply_override({"stop": ["a"]}, f"{key}=1")


def test_a_written_config_is_read_as_it_was(tmp_path):
    config = parse_config({**GOOD, "student": {"model": "m", "revision": "4e12"}})
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert load_config(tmp_path / "config.yaml").model_dump() == config.model_dump()
