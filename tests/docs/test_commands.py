"""Commands of the pages parse, configs of the pages load: with the files that the pages speak of, made here."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import tiny
import typer
import yaml
from pages import DOCS, PAGES, ROOT, blocks, name_of, prose
from typer.testing import CliRunner

from reward_distiller.cli.main import app
from reward_distiller.config import load_comparison, load_run
from reward_distiller.errors import ConfigError
from reward_distiller.recipes.cases import CASES, case_text, write_case
from reward_distiller.teacher.prompts import Templates

USAGE_ERROR = typer.BadParameter.__mro__[1]
COMMAND = typer.main.get_command(app)
CALL = re.compile(r"(?:^|\s|`)(?:python )?(reward-distiller|-m reward_distiller) (?!\.)([^\n;&`]*)")
HOW_TO = sorted((DOCS / "how_to").glob("*.md"))
CONFIGS = [*sorted((ROOT / "configs").glob("*.yaml")), *sorted((ROOT / "src").rglob("cases/*.yaml"))]


def calls(text: str) -> list[list[str]]:
    """The arguments of each call of the command line in a text, whole ones only."""
    found = []
    for call in CALL.findall(text.replace("\\\n", " ")):
        if not re.search(r"\.\.\.|…|\w\\?\|\w|\[\w+\] |\$\(", call[1]):
            found.append(shlex.split(call[1], comments=True))
    return found


def calls_of(path: Path) -> list[list[str]]:
    """In blocks and in code within sentences, but for bare names of commands."""
    if path.suffix == ".yaml":
        return calls("\n".join(line[1:] for line in path.read_text("utf-8").splitlines() if line[:1] == "#"))
    code = [block.text for block in blocks(path) if block.language in ("", "bash")]
    inline = [found for found in re.findall(r"`([^`\n]+)`", prose(path)) if found.startswith("reward-distiller ")]
    return [call for text in (*code, *inline) for call in calls(text) if not is_bare(call)]


def is_bare(arguments: list[str]) -> bool:
    command = COMMAND
    for name in arguments:
        command = getattr(command, "commands", {}).get(name)
        if command is None:
            return False
    return True


def parse(arguments: list[str]) -> None:
    """Raises USAGE_ERROR for what the command line does not take. Runs nothing."""
    command, context, name = COMMAND, None, "reward-distiller"
    while True:
        within = command.make_context(name, list(arguments), parent=context)
        if not hasattr(command, "commands"):
            return
        name, command, arguments = command.resolve_command(within, [*within._protected_args, *within.args])
        context = within


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=name_of)
def test_commands_parse(path: Path) -> None:
    for arguments in calls_of(path):
        try:
            parse(arguments)
        except typer.Exit:  # --help and the like end there
            continue
        except USAGE_ERROR as error:
            pytest.fail(f"reward-distiller {shlex.join(arguments)}: {error.format_message()}")


def test_commands_are_found_and_wrong_ones_refused() -> None:
    assert len(calls_of(ROOT / "README.md")) > 15
    assert sum(len(calls_of(path)) for path in HOW_TO) > 30
    assert calls("a\n    X=1 reward-distiller run c.yaml \\\n      a=1  # so\n") == [["run", "c.yaml", "a=1"]]
    for wrong in (
        ["runn", "x"],
        ["run"],
        ["run", "c.yaml", "--dry"],
        ["serve", "m", "--port", "no"],
        ["ledger", "see"],
    ):
        with pytest.raises(USAGE_ERROR):
            parse(wrong)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with all that the pages take for given, but models of real size."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    tokenizer = tiny.byte_tokenizer()
    tiny.tiny_lm(len(tokenizer) + 1).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    for name in ("prompts", "test_prompts"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": "What is 2 and 2?"}) + "\n")
    return tmp_path


def loads(text: str, here: Path) -> None:
    """A whole config, or a part of one: what it says stands in the place of what a case of `init` says there."""
    written = yaml.safe_load(text)
    file = here / "part.yaml"
    if "recipe" in written:
        file.write_text(text)
        (load_comparison if written["recipe"] == "compare" else load_run)(file)
        return
    problems = []
    for case in CASES:
        file.write_text(yaml.safe_dump(yaml.safe_load(case_text(case)) | written))
        try:
            load_run(file)
            return
        except ConfigError as error:
            problems.append(str(error))
    pytest.fail(f"no case takes this:\n{text}\n" + "\n".join(problems))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_configs_load(path: Path, here: Path) -> None:
    for block in blocks(path):
        if block.language == "yaml":
            loads(block.text, here)
        for config in re.findall(r"<<'END'\n(recipe:.*?)\nEND\n", block.text, re.S):
            loads(config, here)


def test_a_wrong_config_is_refused(here: Path) -> None:
    for wrong in ("teacher: {model: a, base_ur: http://a}", "recipe: rl\nalgorithm: ppp", "nothing: {}"):
        with pytest.raises((ConfigError, pytest.fail.Exception)):
            loads(wrong, here)


@pytest.mark.parametrize("path", HOW_TO, ids=name_of)
def test_how_to_pages_change_their_configs_in_ways_that_load(path: Path, here: Path) -> None:
    """`init CASE -o FILE` is run, and every later command that reads FILE loads it with its own changes."""
    written = set()
    for arguments in calls_of(path):
        match arguments:
            case ["init", case, "-o", file]:
                Path(file).unlink(missing_ok=True)
                write_case(case, file)
                written.add(file)
            case [_, file, *rest] if file in written:
                load_run(file, [change for change in rest if re.match(r"[\w.]+=", change)])


@pytest.mark.parametrize("engine", ["verl", "openrlhf"])
def test_what_the_pages_emit_is_emitted(engine: str, here: Path) -> None:
    (call,) = [each for each in calls_of(DOCS / "how_to" / f"rl_with_{engine}.md") if "--emit" in each]
    write_case("policy", "policy.yaml")
    done = CliRunner().invoke(app, [*call, "policy.model=lm"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert f"runs/policy/{engine}/launch.sh" in done.output
    script = Path(f"runs/policy/{engine}/launch.sh").read_text()
    assert "REWARD_DISTILLER_URL:?" in script


def test_the_template_of_the_page_is_taken(here: Path) -> None:
    (template,) = [each for each in blocks(DOCS / "how_to" / "own_prompts.md") if each.language == "jinja"]
    (here / "my_templates").mkdir()
    (here / "my_templates" / "pairwise_scores.jinja").write_text(template.text)
    assert Templates("my_templates").source("pairwise_scores") == template.text


def test_the_template_table_is_that_of_the_code() -> None:
    from reward_distiller.teacher.prompts import VALUES

    table = (DOCS / "how_to" / "own_prompts.md").read_text("utf-8")
    for name, values in VALUES.items():
        if not name.startswith("judge_"):
            row = re.search(rf"^\| `{name}\.jinja` \|.*$", table, re.M)
            assert row, name
            assert all(f"`{value}`" in row[0] for value in values), name
