"""`reward-distiller ledger ...`: what was asked and answered, what it took, and how to keep it or hand it on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.cli.lazy import Described
from reward_distiller.cli.options import AsJson
from reward_distiller.cli.options import show as show_results
from reward_distiller.config import load_config
from reward_distiller.errors import LedgerError
from reward_distiller.teacher import ledger_check, ledger_prune, ledger_show
from reward_distiller.teacher.ledger import Ledger, require_file
from reward_distiller.teacher.ledger_exchange import export_answers, import_answers
from reward_distiller.teacher.ledger_merge import merge as merge_ledger
from reward_distiller.teacher.ledger_prune import Choice
from reward_distiller.teacher.ledger_report import prices_of, report
from reward_distiller.teacher.ledger_schema import VERSION

app = typer.Typer(cls=Described, no_args_is_help=True, rich_markup_mode=None)

File = Annotated[str, typer.Argument(metavar="FILE", help="a ledger; in a run folder, ledger.sqlite")]


@app.callback()
def ledger() -> None:
    """The file of all calls to models: what was asked and answered, what it took."""


@app.command()
def stats(
    file: File,
    as_json: AsJson = False,
    config: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="a run's config: money, by the prices of its models")
    ] = None,
) -> None:
    """Attempts, tokens and money by model and step; what may have been billed besides, at its worst case.

    Example: reward-distiller ledger stats runs/mine/ledger.sqlite --config runs/mine/config.yaml
    """
    prices = None
    if config:
        settings = load_config(config)
        prices = prices_of(settings.chat_models)
    with Ledger.read(file) as opened:
        found = report(opened, prices)
    show_results(found.as_json(), found.as_text(), as_json)


@app.command()
def show(
    file: File,
    key: Annotated[str, typer.Argument(metavar="KEY", help="a call's key, or enough of its beginning")],
) -> None:
    """One call whole: what was asked, every attempt at it, and the response as it came.

    Example: reward-distiller ledger show runs/mine/ledger.sqlite 4f1c
    """
    with Ledger.read(file) as opened:
        typer.echo(ledger_show.show(opened, key))


@app.command()
def export(
    file: File,
    output: Annotated[str, typer.Argument(metavar="OUT", help="file to write: .jsonl or .jsonl.gz")],
) -> None:
    """A line for each answered call: key, model, step, request, body, usage.

    Example: reward-distiller ledger export runs/mine/ledger.sqlite answers.jsonl.gz
    """
    with Ledger.read(file) as opened:
        count = export_answers(opened, output)
    typer.echo(f"{count} answers: {output}")


@app.command("import")
def import_(
    file: File,
    rows: Annotated[str, typer.Argument(metavar="IN", help="lines of an export; or request and response")],
) -> None:
    """Answers from elsewhere, all or none: another ledger's, or other people's annotations. They count as not billed.

    Example: reward-distiller ledger import runs/mine/ledger.sqlite annotations.jsonl
    """
    with Ledger.open(file) as opened:
        taken = import_answers(opened, rows)
    differing = f", {taken.differing} of them with another body in the file" if taken.differing else ""
    typer.echo(f"{taken.added} answers imported, {taken.kept} were there already and stay{differing}: {file}")


@app.command()
def merge(
    file: File,
    others: Annotated[list[str], typer.Argument(metavar="OTHER...", help="ledgers whose calls come in; they stay")],
) -> None:
    """Take other ledgers in whole, by key, with what their calls took. Merging one again adds nothing.

    Example: reward-distiller ledger merge runs/mine/ledger.sqlite node1.sqlite node2.sqlite
    """
    with Ledger.open(file) as opened:
        for other in others:
            found = merge_ledger(opened, other)
            differing = f", {found.differing} answers differ and stay as they are here" if found.differing else ""
            typer.echo(f"{other}: {found.attempts} attempts and {found.answers} answers came in{differing}")


@app.command()
def prune(
    file: File,
    model: Annotated[str | None, typer.Option(help="only attempts at this model")] = None,
    step: Annotated[str | None, typer.Option(help="only attempts of this step")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="only attempts that brought nothing")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="only attempts of unknown outcome; else never")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it, only say what would go")] = False,
) -> None:
    """Delete attempts with their responses. A deleted answer is bought again when it is asked for again.

    Example: reward-distiller ledger prune runs/mine/ledger.sqlite --failed
    """
    choice = Choice(model, step, failed, unknown)
    with Ledger.read(file) as opened:
        count, table = ledger_prune.would_delete(opened, choice)
    if not count:
        typer.echo("nothing to delete: no attempt is all that")
        return
    typer.echo(table)
    if not yes:
        typer.echo(f"{count} attempts would go, with their responses. Add --yes to delete them")
        return
    with Ledger.open(file) as writable:
        ledger_prune.prune(writable, choice)
    typer.echo(f"deleted; {file} has {Path(file).stat().st_size} bytes now")


@app.command()
def check(file: File) -> None:
    """Whether the file is sound, every key is its request's hash, and every answer has its attempt. Changes nothing.

    Example: reward-distiller ledger check runs/mine/ledger.sqlite
    """
    with Ledger.read(file) as opened:
        faults = ledger_check.check(opened)
        if faults:
            typer.echo("\n".join(map(str, faults)))
            raise LedgerError(f"{file}: not sound, as listed. Go back to a copy, or buy what is lost again")
        counts = ", ".join(f"{number} {name}" for name, number in opened.stats().items())
    typer.echo(f"sound: {counts}")


@app.command()
def upgrade(file: File) -> None:
    """Bring a ledger of an older version to this one, and make the file as small as it can be.

    Example: reward-distiller ledger upgrade runs/mine/ledger.sqlite
    """
    require_file(file)
    with Ledger.open(file) as opened:
        opened.shrink()
    typer.echo(f"version {VERSION}: {file}")
