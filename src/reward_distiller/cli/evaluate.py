"""`evaluate`: a scorer on the benchmarks of reward models. `ratings`: what people said of systems' responses."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.cli.options import AsJson, Preview, show
from reward_distiller.cli.preview import show_seen
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import World, load_config
from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.benchmarks import BENCHMARKS, benchmark_named
from reward_distiller.evaluate.benchmarks.strengths import STRENGTH_SETS
from reward_distiller.files import write_json, write_text
from reward_distiller.recipes import evaluation as recipe
from reward_distiller.recipes import ratings as human
from reward_distiller.recipes.answering import load_all
from reward_distiller.recipes.audits import training_file_of, training_prompts
from reward_distiller.recipes.critics import TeacherCritic, teacher_critic
from reward_distiller.recipes.evaluation_table import table
from reward_distiller.recipes.judges import JudgeSettings
from reward_distiller.recipes.preview.judges import preview_evaluation
from reward_distiller.recipes.scorers import ScorerSettings, open_scorer
from reward_distiller.teacher.judging import FORMATS
from reward_distiller.testbed.parts import TestbedParts

SCORER = "a reward model's folder or Hub id; http://HOST/v1/rewards or .../classify; baseline:length, baseline:random; \
judge:MODEL@URL"


def evaluate(
    scorer: Annotated[str, typer.Argument(metavar="SCORER", help=SCORER)],
    output: Annotated[str, typer.Option(help="folder of results.json, table.md and every example's answer")],
    benchmark: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=PATH]", help=f"from the Hub without a path: {', '.join(BENCHMARKS)}"),
    ] = None,
    calibration: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help=f"strengths of preference: {', '.join(STRENGTH_SETS)}")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="SCORER", help="give the paired difference to it")] = None,
    bias_audit: Annotated[bool, typer.Option("--bias-audit", help="style, and edits that say nothing new")] = False,
    training: Annotated[
        str | None, typer.Option(metavar="FILE", help="its prompts are looked for in the benchmarks; a run's are known")
    ] = None,
    judge_format: Annotated[str, typer.Option(help=f"how a judge is asked: {', '.join(FORMATS)}")] = "pairwise_scores",
    reasoning: Annotated[bool, typer.Option("--reasoning", help="a judge reasons before its verdict")] = False,
    one_order: Annotated[
        bool, typer.Option("--one-order", help="a judge sees each pair once, in a drawn order")
    ] = False,
    judge_options: Annotated[str, typer.Option(metavar="JSON", help='as in a config: {"api_key_env": "KEY"}')] = "{}",
    max_length: Annotated[int | None, typer.Option(min=1, help="tokens; longer examples are counted, not cut")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    chat_template: Annotated[str | None, typer.Option(help="file, for checkpoints that carry none")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="run code that comes with the model")] = False,
    teacher: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="its teacher writes the critiques that the model reads")
    ] = None,
    token_env: Annotated[str | None, typer.Option(help="environment variable with a server's bearer token")] = None,
    preview: Preview = None,
    as_json: AsJson = False,
) -> None:
    """Judge a reward model as its benchmarks do, with an interval on every figure.

    Example: reward-distiller evaluate runs/mine/model --benchmark rm_bench=data/rm_bench --output runs/mine/rm_bench
    """
    folder = Path(output)
    asked = [_named(text) for text in benchmark or []]
    strengths = [_named(text) for text in calibration or []]
    if not asked and not strengths:
        raise ConfigError("nothing to evaluate on. Name a --benchmark or a --calibration")
    for name, path in strengths:
        if not path:
            raise ConfigError(f"calibration {name}: name its file or folder, {name}=PATH")
    sets = load_all([(benchmark_named(name), path or None) for name, path in asked])
    parts = TestbedParts(World(), seed=0)
    if preview:
        judge = JudgeSettings(judge_format, reasoning, not one_order, endpoint=options_of(judge_options))
        scorers = [scorer, against] if against else [scorer]
        return show_seen(preview_evaluation(scorers, judge, sets, folder / "ledger.sqlite", parts, preview), as_json)
    settings = ScorerSettings(
        ledger=folder / "ledger.sqlite",
        judge=JudgeSettings(judge_format, reasoning, not one_order, endpoint=options_of(judge_options)),
        max_length=max_length,
        device=device,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
        token_env=token_env,
        critic=_critic(teacher) if teacher else None,
    )
    trained_on = Path(training) if training else training_file_of(scorer)
    with ExitStack() as open_ones:
        opened = open_ones.enter_context(open_scorer(scorer, settings, parts))
        other = open_ones.enter_context(open_scorer(against, settings, parts)) if against else None
        results = recipe.evaluate(
            opened,
            sets,
            folder,
            against=other,
            calibration=strengths,
            bias_audit=bias_audit,
            training=training_prompts(trained_on) if trained_on else None,
        )
    show(results, f"{table(results, details=False)}\nall figures: {folder / 'results.json'}", as_json)
    report_at_end(folder)


def ratings(
    file: Annotated[str, typer.Argument(metavar="FILE", help="rows: response, system, rater, score (1 to 5), prompt")],
    output: Annotated[str | None, typer.Option(help="folder of results.json and table.md")] = None,
    as_json: AsJson = False,
) -> None:
    """Several people's scores of responses: means by system with intervals, and how far the raters agree.

    Example: reward-distiller ratings ratings.jsonl --output runs/ratings
    """
    results = human.ratings(file)
    text = human.table(results)
    if output:
        write_json(Path(output) / "results.json", results)
        write_text(Path(output) / "table.md", text)
    show(results, text, as_json)


def _critic(config: str) -> AbstractContextManager[TeacherCritic]:
    settings = load_config(config)
    return teacher_critic(settings, TestbedParts(settings.testbed, settings.seed))


def _named(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    return name, path


def options_of(text: str) -> dict[str, object]:
    """What --judge-options holds. Raises ConfigError for what is no JSON object."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--judge-options: not JSON ({error})") from error
    if not isinstance(options, dict):
        raise ConfigError("--judge-options: not an object. Write for example '{\"concurrency\": 8}'")
    return options
