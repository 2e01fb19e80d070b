"""The commands of `reward-distiller`: what there is, and where it stands."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

from reward_distiller import __version__
from reward_distiller.cli.lazy import Command, LazyCommands, Sections
from reward_distiller.console import without_color

HERE = "reward_distiller.cli"
EXAMPLES = "Example: reward-distiller init openai -o mine.yaml. COMMAND --help has more."


class Commands(LazyCommands):
    sections: ClassVar[Sections] = {
        "Begin": {
            "demo": Command(f"{HERE}.demo:demo", "the whole method on the built-in testbed, in minutes"),
            "init": Command(f"{HERE}.init:init", "write a commented config for a case, or list the cases"),
            "doctor": Command(f"{HERE}.doctor:doctor", "find what would stop a run: machine, keys, data, memory"),
            "preview": Command(f"{HERE}.preview:preview", "show word for word what a run would ask"),
        },
        "Make": {
            "run": Command(f"{HERE}.run:run", "a whole run: pairs, training, evaluation; or data and rewards"),
            "compare": Command(f"{HERE}.compare:compare", "several arms and seeds side by side, one table"),
            "construct": Command(f"{HERE}.run:construct", "only the pairs"),
            "train": Command(f"{HERE}.run:train", "only the training, on pairs of yours; asks no teacher"),
            "prepare": Command(f"{HERE}.prepare:app", "make what a run reads, from data sets and models"),
        },
        "Judge": {
            "evaluate": Command(f"{HERE}.evaluate:evaluate", "a reward model on benchmarks, with intervals"),
            "policy": Command(f"{HERE}.policy:app", "figures of policies, by judges and by lm-eval"),
            "report": Command(f"{HERE}.report:report", "a run's folder as one page to look at"),
            "ratings": Command(f"{HERE}.evaluate:ratings", "what people said of responses, and if they agree"),
        },
        "Use": {
            "score": Command(f"{HERE}.score:score", "add rewards to rows of prompts and responses"),
            "serve": Command(f"{HERE}.serve:serve", "rewards over HTTP, in vLLM's, OpenRLHF's and our format"),
            "push": Command(f"{HERE}.push:push", "publish a run's model and pairs, with cards, on the Hub"),
            "rl": Command(f"{HERE}.rl:rl", "train a policy by SFT, GRPO, DAPO or PPO"),
        },
        "Keep": {
            "ledger": Command(f"{HERE}.ledger:app", "the file of all calls: what was asked, and what it took"),
            "batch": Command(f"{HERE}.batch:app", "calls that were handed over to a batch API"),
            "quarantine": Command(f"{HERE}.quarantine:app", "answers that could not be read"),
            "testbed": Command(f"{HERE}.testbed:app", "the built-in miniature world as a server"),
        },
    }
    brief: ClassVar[dict[str, str]] = {"Keep": "what was asked, a server to try"}


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog=EXAMPLES,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


def _no_color(value: bool) -> None:
    if value:
        without_color()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", callback=_no_color, is_eager=True, help="as the variable NO_COLOR does")
    ] = False,
) -> None:
    """Turn a generative LLM into a reward model, and prove how good it is."""
