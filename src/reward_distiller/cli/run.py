"""`run`, and its halves: `construct` makes pairs, `train` a reward model of pairs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.estimates import estimate_table, estimates_json
from reward_distiller.cli.options import AsJson, ConfigFile, Overrides, show
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import Config, DataAndRewards, RLConfig, load_config, load_run
from reward_distiller.errors import ConfigError
from reward_distiller.recipes import data_and_rewards
from reward_distiller.recipes import reward_model as recipe
from reward_distiller.recipes.cards.reward_model_card import evaluation_section
from reward_distiller.recipes.ray_workers import on_ray
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.sharded import construct_sharded
from reward_distiller.recipes.whole_runs import do_run

DryRun = Annotated[bool, typer.Option("--dry-run", help="check everything and count the calls; make none")]


def run(config: ConfigFile, overrides: Overrides = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Distil a reward model: construct pairs, train, evaluate. Or data and rewards, by the recipe of the config.

    Example: reward-distiller run configs/openai-teacher.yaml seed=1 training.epochs=2
    """
    settings = load_run(config, overrides or [])
    if isinstance(settings, RLConfig):
        raise ConfigError(f"{config}: trains a policy. Use reward-distiller rl {config}")
    if dry_run:
        if not isinstance(settings, Config):
            raise ConfigError(f"{config}: only a reward model's construction can be counted before it is done")
        return _show_dry_run(settings, as_json)
    results = do_run(settings, parts_of(settings))
    if isinstance(settings, Config):
        text = _summary(results)
    elif isinstance(settings, DataAndRewards):
        text = f"{data_and_rewards.table(results)}\npolicy: {results['model']}"
    else:
        text = f"{results['counts']['responses']} labeled responses: {settings.output}/responses.jsonl"
    show(results, text, as_json)
    report_at_end(settings.output)


def construct(
    config: ConfigFile,
    overrides: Overrides = None,
    dry_run: DryRun = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="ask from a Ray cluster's nodes: host:port, auto, local")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, help="shares of the prompts, each with a worker of the cluster")] = 8,
    as_json: AsJson = False,
) -> None:
    """Only the first half: prompts (or labeled pairs) to scored preference pairs in OUTPUT/pairs.jsonl.

    Example: reward-distiller construct configs/openai-teacher.yaml --dry-run
    """
    settings = load_config(config, overrides or [])
    if dry_run:
        return _show_dry_run(settings, as_json)
    with run_folder(settings) as folder:
        if ray:
            made = construct_sharded(folder, settings, parts_of, shards, on_ray(ray))
        else:
            made = recipe.construct_into(folder, settings, parts_of(settings))
    results = {"pairs": len(made.pairs), "file": str(folder / "pairs.jsonl"), "cost": made.cost}
    results["steps"] = [balance.as_dict() for balance in made.balances]
    show(results, f"{len(made.pairs)} pairs: {results['file']}", as_json)


def train(
    pairs: Annotated[str, typer.Option(help="file with prompt, chosen, rejected and, for a margin, the two scores")],
    student: Annotated[str, typer.Option(help="folder or Hub id of a causal LM; or testbed")],
    output: Annotated[str, typer.Option(help="run folder")],
    method: Annotated[str, typer.Option(help="one of docs/methods.md")] = "rm_distiller",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Only the second half, on your own pairs; nothing is asked of a teacher.

    Example: reward-distiller train --pairs mine.parquet --student Qwen/Qwen2.5-3B-Instruct --output runs/mine
    """
    settings = recipe.training_config(pairs, student, output, method, overrides or [])
    results = recipe.train_on_pairs(settings, parts_of(settings))
    if not results:  # a process that helped the main one of a launch
        return
    show(results, _summary(results), as_json)
    report_at_end(settings.output)


def _summary(results: dict[str, Any]) -> str:
    return f"{evaluation_section(results).strip()}\nreward model: {results['model']}"


def _show_dry_run(config: Config, as_json: bool) -> None:
    inputs, estimates = recipe.dry_run(config, parts_of(config))
    results = {"inputs": inputs.balance.as_dict(), "steps": estimates_json(estimates)}
    show(results, f"{inputs.balance.line()}\n{estimate_table(estimates)}", as_json)
