"""The commands of `reward-distiller`, each a thin call."""

from __future__ import annotations

import json
from importlib import resources
from typing import Annotated

import typer

from reward_distiller import __version__
from reward_distiller.cli import batch, ledger, policy, prepare, quarantine, testbed
from reward_distiller.cli import compare as comparing
from reward_distiller.cli import doctor as examining
from reward_distiller.cli import evaluate as evaluating
from reward_distiller.cli import init as beginning
from reward_distiller.cli import preview as previewing
from reward_distiller.cli import report as reporting
from reward_distiller.cli import rl as training
from reward_distiller.cli import serve as serving
from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.estimates import estimate_table
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import Config, DataAndRewards, RLConfig, load_comparison, load_config, load_run
from reward_distiller.errors import ConfigError
from reward_distiller.recipes import data_and_rewards
from reward_distiller.recipes import demo as demo_recipe
from reward_distiller.recipes import reward_model as recipe
from reward_distiller.recipes.card import evaluation_section
from reward_distiller.recipes.critics import teacher_critic
from reward_distiller.recipes.ray_workers import on_ray
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.scoring import score_file
from reward_distiller.recipes.sharded import construct_sharded
from reward_distiller.recipes.whole_runs import do_run

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None)

app.add_typer(batch.app, name="batch")
app.add_typer(ledger.app, name="ledger")
app.add_typer(policy.app, name="policy")
app.add_typer(prepare.app, name="prepare")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(testbed.app, name="testbed")
app.command()(comparing.compare)
app.command()(examining.doctor)
app.command()(beginning.init)
app.command()(evaluating.evaluate)
app.command()(evaluating.ratings)
app.command()(previewing.preview)
app.command()(reporting.report)
app.command()(serving.serve)
app.command()(training.rl)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="changes to the config")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check everything and count the calls; make none")]


def _show_dry_run(config: Config) -> None:
    inputs, estimates = recipe.dry_run(config, parts_of(config))
    typer.echo(inputs.balance.line())
    typer.echo(estimate_table(estimates))


@app.command()
def run(config: ConfigFile, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Distil a reward model: construct pairs, train, evaluate. Or data and rewards, by the recipe of the config.

    Example: reward-distiller run configs/openai-teacher.yaml seed=1 training.epochs=2
    """
    settings = load_run(config, overrides or [])
    if isinstance(settings, RLConfig):
        raise ConfigError(f"{config}: trains a policy. Use reward-distiller rl {config}")
    if dry_run:
        if not isinstance(settings, Config):
            raise ConfigError(f"{config}: only a reward model's construction can be counted before it is done")
        return _show_dry_run(settings)
    results = do_run(settings, parts_of(settings))
    if isinstance(settings, Config):
        typer.echo(evaluation_section(results).strip())
        typer.echo(f"reward model: {results['model']}")
    elif isinstance(settings, DataAndRewards):
        typer.echo(data_and_rewards.table(results))
        typer.echo(f"policy: {results['model']}")
    else:
        typer.echo(f"{results['counts']['responses']} labeled responses: {settings.output}/responses.jsonl")
    report_at_end(settings.output)


@app.command()
def construct(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="ask from a Ray cluster's nodes: host:port, auto, local")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="shares of the prompts, each with a worker of the cluster")] = 8,
) -> None:
    """Only the first half: prompts (or labeled pairs) to scored preference pairs in OUTPUT/pairs.jsonl."""
    settings = load_config(config, overrides or [])
    if dry_run:
        return _show_dry_run(settings)
    with run_folder(settings) as folder:
        if ray:
            made = construct_sharded(folder, settings, parts_of, shards, on_ray(ray))
        else:
            made = recipe.construct_into(folder, settings, parts_of(settings))
    typer.echo(f"{len(made.pairs)} pairs: {folder / 'pairs.jsonl'}")


@app.command()
def train(
    pairs: Annotated[str, typer.Option(help="file with prompt, chosen, rejected and, for a margin, the two scores")],
    student: Annotated[str, typer.Option(help="folder or Hub id of a causal LM; or testbed")],
    output: Annotated[str, typer.Option(help="run folder")],
    method: Annotated[str, typer.Option(help="one of docs/methods.md")] = "rm_distiller",
    overrides: Overrides = None,
) -> None:
    """Only the second half, on your own pairs; nothing is asked of a teacher.

    Example: reward-distiller train --pairs mine.parquet --student Qwen/Qwen2.5-3B-Instruct --output runs/mine
    """
    settings = recipe.training_config(pairs, student, output, method, overrides or [])
    results = recipe.train_on_pairs(settings, parts_of(settings))
    if not results:  # a process that helped the main one of a launch
        return
    typer.echo(evaluation_section(results).strip())
    typer.echo(f"reward model: {results['model']}")
    report_at_end(settings.output)


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="folder or Hub id of a reward model, ours or not")],
    input: Annotated[
        str, typer.Option(help='rows {"prompt": text or messages, "responses": [text, ...], maybe "critiques": [...]}')
    ],
    output: Annotated[str, typer.Option(help="the same rows with rewards added")],
    teacher: Annotated[
        str | None, typer.Option(metavar="CONFIG", help="its teacher writes the critiques that the model reads")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="tokens; longer responses are an error")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    chat_template: Annotated[str | None, typer.Option(help="file, for checkpoints that carry none")] = None,
    trust_remote_code: Annotated[bool, typer.Option(help="run code that comes with the model")] = False,
) -> None:
    """Add `rewards` to rows of prompts and responses."""
    settings = load_config(teacher) if teacher else None
    count = score_file(
        model,
        input,
        output,
        max_length=max_length,
        device=device,
        chat_template=chat_template,
        trust_remote_code=trust_remote_code,
        critic=teacher_critic(settings, parts_of(settings)) if settings else None,
    )
    typer.echo(f"{count} rows: {output}")


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="decides prompts, draws and training order")] = 0,
    output: Annotated[str, typer.Option(help="run folder")] = "runs/demo",
    overrides: Overrides = None,
) -> None:
    """Distil on the built-in testbed with Bradley-Terry and with RM-Distiller, and compare them."""
    own = [f"output={output}", f"seeds=[{seed}]", f"changes={json.dumps(overrides or [])}"]
    with resources.as_file(resources.files("reward_distiller.testbed")) as folder:
        comparison = load_comparison(folder / "demo-compare.yaml", own)
        typer.echo(demo_recipe.demo(comparison, parts_of))
    report_at_end(output)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None:
    """Turn a generative LLM into a reward model, and prove how good it is."""
