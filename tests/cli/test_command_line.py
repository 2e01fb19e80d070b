"""The command line itself: its help, completion, JSON for scripts, and what is said while work goes on."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers import fake, fake_engine
from recipes.micro import cli, write_config
from typer.main import get_command
from typer.testing import CliRunner

from reward_distiller import console
from reward_distiller.cli.main import Commands, app
from reward_distiller.records import Prompt
from reward_distiller.teacher.questions import Question, Unparsable

NAMES = [name for section in Commands.sections.values() for name in section]
BASH = """
eval "$(_REWARD_DISTILLER_COMPLETE=source_bash reward-distiller)"
COMP_WORDS=(reward-distiller {words}); COMP_CWORD={at}
_reward_distiller_completion reward-distiller
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(*words):
    """What bash offers behind these words."""
    folder = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    script = BASH.format(words=" ".join(words), at=len(words))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_help_fits_a_screen_and_names_all_commands():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    lines = shown.splitlines()
    assert len(lines) < 24  # and the shell's prompt behind them
    assert max(map(len, lines)) <= 80
    words = shown.replace(",", "").replace(":", "").split()
    assert set(NAMES) <= set(words)
    assert "Example: " in shown


def leaves(command, path=()):
    for name, each in command.commands.items():
        if hasattr(each, "commands"):
            yield from leaves(each, (*path, name))
        else:
            yield (*path, name), each


def test_every_command_has_an_example_of_itself_and_no_list_cuts_a_line_short():
    root = get_command(app)
    for path, command in leaves(root):
        assert f"reward-distiller {' '.join(path)}" in command.help.partition("Example: ")[2], path
    for name, each in root.commands.items():
        if hasattr(each, "commands"):
            shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
            assert "..." not in shown.partition("Commands:")[2]


def test_colour_is_for_terminals_and_off_where_it_is_not_wanted(monkeypatch):
    def terminal(yes):
        monkeypatch.setattr(console.sys, "stdout", SimpleNamespace(isatty=lambda: yes))
        found = console.colored("bad", "red")
        monkeypatch.undo()
        return found

    for variables, yes, shown in (
        ({"TERM": "xterm", "NO_COLOR": ""}, True, "\x1b[31mbad\x1b[0m"),
        ({"TERM": "xterm", "NO_COLOR": ""}, False, "bad"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, "bad"),
        ({"TERM": "dumb", "NO_COLOR": ""}, True, "bad"),
    ):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert terminal(yes) == shown


def test_a_command_line_without_colour_tells_the_processes_that_it_starts(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setattr(console.console, "no_color", False)
    assert CliRunner().invoke(app, ["--no-color", "init"]).exit_code == 0
    assert os.environ["NO_COLOR"] == "1"
    assert console.console.no_color


@pytest.mark.parametrize("name", NAMES)
def test_every_command_is_where_the_list_says(name):
    command = get_command(app).commands[name]
    assert command.name == name
    assert command.help


def test_help_and_completion_wait_for_no_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from reward_distiller.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert not {'torch', 'transformers', 'pydantic'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_an_unknown_command_is_told_its_neighbour():
    done = CliRunner().invoke(app, ["evalute"])
    assert done.exit_code == 2
    assert "Did you mean 'evaluate'?" in done.output


def test_bash_completes_commands_subcommands_and_options():
    assert completed("co") == ["compare", "construct"]
    assert completed("ledger", "ex") == ["export"]
    assert "--dry-run" in completed("compare", "--d")
    assert "--version" in completed("--")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell):
    """A shell that is here reads it."""
    command = [os.path.join(os.path.dirname(sys.executable), "reward-distiller")]
    environment = {**os.environ, "_REWARD_DISTILLER_COMPLETE": f"source_{shell}"}
    script = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120).stdout
    assert "complet" in script
    assert "reward-distiller" in script
    if shutil.which(shell):
        read = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=60)
        assert read.returncode == 0, read.stderr


def test_json_is_all_that_is_on_stdout_and_is_what_results_json_holds(tmp_path):
    config = write_config(tmp_path)
    counted = cli("run", config, "--dry-run", "--json")
    steps = json.loads(counted.stdout)["steps"]
    assert all(step["low"]["input_tokens"] <= step["high"]["input_tokens"] for step in steps)
    done = cli("run", config, "--json")
    assert done.returncode == 0, done.stderr
    folder = next(tmp_path.rglob("results.json")).parent
    assert json.loads(done.stdout) == json.loads((folder / "results.json").read_text())
    failed = cli("run", tmp_path / "none.yaml", "--json")
    assert failed.returncode > 0
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")


def test_what_is_said_of_calls_has_rate_time_left_money_and_what_could_not_be_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_EVERY", -1.0)

    def parse(text):
        if text == "7":
            raise Unparsable("no number")
        return text

    model = fake(max_asks=1, price={"input": 1e6, "output": 1e6})
    with fake_engine(tmp_path, lambda request: request["messages"][0]["content"]) as (engine, _):
        questions = [Question(str(n), Prompt.from_text(str(n)).as_dicts(), parse) for n in range(10)]
        engine.ask(model, "annotate", questions)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("annotate: teacher: ")]
    assert len(lines) == 11
    assert all(part in lines[4] for part in ("/s, ", " s left, ", " spent"))
    assert lines[-1].endswith("spent, 1 quarantined")
