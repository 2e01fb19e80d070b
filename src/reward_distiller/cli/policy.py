"""`reward-distiller policy ...`: figures of policies' responses, by judges and by rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reward_distiller.cli.compare import parts_of
from reward_distiller.cli.evaluate import options_of
from reward_distiller.cli.lazy import Described
from reward_distiller.cli.options import AsJson, Overrides, Preview, show, show_folder
from reward_distiller.cli.preview import show_seen
from reward_distiller.cli.report import report_at_end
from reward_distiller.config import World, load_rl_config
from reward_distiller.evaluate.policy import POLICY_BENCHMARKS, policy_benchmark_named
from reward_distiller.evaluate.policy.responses import read_responses
from reward_distiller.recipes import best_of_n as recipe
from reward_distiller.recipes.judges import JudgeSettings
from reward_distiller.recipes.lm_eval_models import PolicyPlace
from reward_distiller.recipes.policy_evaluation import PolicyJudge, evaluate_policy, load_tasks
from reward_distiller.recipes.policy_lm_eval import TASKS, Asked, evaluate_by_lm_eval
from reward_distiller.recipes.policy_win_rate import compare_policies
from reward_distiller.recipes.preview.judges import preview_policy_evaluation
from reward_distiller.teacher.judging import FORMATS
from reward_distiller.testbed.parts import TestbedParts

app = typer.Typer(
    cls=Described, no_args_is_help=True, rich_markup_mode=None, help="Figures of policies' responses, by judges."
)

ROWS = "rows {prompt: text or messages, response: text}, maybe id and model"
PAIRWISE = [name for name, form in FORMATS.items() if form.pairwise]
Judge = Annotated[str, typer.Option(metavar="MODEL@URL", help="the chat model that judges")]
Output = Annotated[str, typer.Option(help="folder of results.json, table.md, judgements.jsonl and the ledger")]
Options = Annotated[str, typer.Option(metavar="JSON", help='as in a config: {"api_key_env": "KEY"}')]


@app.callback()
def policy() -> None:
    """Figures of policies' responses, by judges."""


@app.command()
def evaluate(
    responses: Annotated[str, typer.Argument(metavar="RESPONSES", help=ROWS)],
    benchmark: Annotated[
        str,
        typer.Option(
            metavar="NAME[=PATH]",
            help=f"{', '.join(POLICY_BENCHMARKS)}; without a path $REWARD_DISTILLER_DATA/NAME is read",
        ),
    ],
    judge: Judge,
    output: Output,
    judge_options: Options = "{}",
    no_logprobs: Annotated[
        bool, typer.Option("--no-logprobs", help="for a server that gives none: a verdict is its letter alone")
    ] = False,
    upstream_compat: Annotated[
        bool, typer.Option("--upstream-compat", help="read a judge's answers as the benchmark's own scripts do")
    ] = False,
    preview: Preview = None,
    as_json: AsJson = False,
) -> None:
    """A policy's figures on a benchmark, with an interval on each.

    Example: reward-distiller policy evaluate responses.jsonl --benchmark alpaca_eval=data/alpaca_eval \\
    --judge gpt-4.1@https://api.openai.com/v1 --output runs/mine/alpaca_eval
    """
    name, _, path = benchmark.partition("=")
    chosen = policy_benchmark_named(name)
    asked = PolicyJudge(judge, options_of(judge_options), not no_logprobs, upstream_compat)
    tasks, rows = load_tasks(chosen, path or None), read_responses(responses)
    parts, folder = TestbedParts(World(), seed=0), Path(output)
    if preview:
        ledger = folder / "ledger.sqlite"
        return show_seen(preview_policy_evaluation(chosen, tasks, rows, asked, ledger, parts, preview), as_json)
    evaluate_policy(chosen, tasks, rows, asked, folder, parts)
    show_folder(output, as_json)


@app.command()
def win_rate(
    ours: Annotated[str, typer.Argument(metavar="A", help=ROWS)],
    other: Annotated[str, typer.Argument(metavar="B", help="the same of another policy")],
    judge: Judge,
    output: Output,
    judge_format: Annotated[str, typer.Option(help=f"how a judge is asked: {', '.join(PAIRWISE)}")] = "pairwise_scores",
    reasoning: Annotated[bool, typer.Option("--reasoning", help="a judge reasons before its verdict")] = False,
    judge_options: Options = "{}",
    as_json: AsJson = False,
) -> None:
    """How often A's response is preferred to B's, over the prompts of both, each pair shown in both orders.

    Example: reward-distiller policy win-rate mine.jsonl theirs.jsonl --judge m@http://HOST/v1 --output runs/wins
    """
    settings = JudgeSettings(judge_format, reasoning, endpoint=options_of(judge_options))
    parts = TestbedParts(World(), seed=0)
    compare_policies(read_responses(ours), read_responses(other), judge, settings, Path(output), parts)
    show_folder(output, as_json)


@app.command("best-of-n")
def best_of_n(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="YAML file of recipe rl: policy, rewards, prompts")],
    overrides: Overrides = None,
    samples: Annotated[int, typer.Option(min=2, help="responses to each prompt, the highest N")] = 32,
    as_json: AsJson = False,
) -> None:
    """What the reward picks out of N responses, beside the truth where it is known. Nothing is trained.

    Example: reward-distiller policy best-of-n configs/testbed-rl.yaml output=runs/best --samples 64
    """
    settings = load_rl_config(config, overrides or [])
    results = recipe.best_of_n(settings, parts_of(settings), samples)
    show(results, recipe.table(results), as_json)
    report_at_end(settings.output)


@app.command("lm-eval")
def lm_eval(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a policy's folder, or its name at --base-url")],
    output: Annotated[str, typer.Option("--output", "-o", help="folder of results.json, table.md, samples.jsonl")],
    tasks: Annotated[str, typer.Option(metavar="NAME,...", help="which to ask")] = ",".join(TASKS),
    data: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="of the tasks' files; $REWARD_DISTILLER_DATA if left out")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="questions of each task, each kind's share of them")] = None,
    shots: Annotated[int | None, typer.Option(min=0, help="worked questions before each, none if left out")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="of a response, 1024 if left out")] = None,
    standard: Annotated[
        bool, typer.Option("--standard", help="lm-eval's own tasks instead, whose data come from the Hub")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(metavar="URL", help="OpenAI-compatible: .../v1, or .../completions for plain text")
    ] = None,
    api_key_env: Annotated[str | None, typer.Option(metavar="NAME", help="variable with the server's key")] = None,
    concurrent: Annotated[int, typer.Option(min=1, help="requests at once")] = 8,
    batch_size: Annotated[int, typer.Option(min=1, help="responses at once of a local policy")] = 8,
    device: Annotated[str | None, typer.Option(help="of a local policy; a GPU where there is one")] = None,
    as_json: AsJson = False,
) -> None:
    """A policy's accuracy on GSM8K, GSM-Plus and MMLU-Pro by lm-eval, with an interval on each.

    Example: reward-distiller policy lm-eval runs/mine/model --tasks gsm8k,mmlu_pro --limit 500 -o runs/mine/lm-eval
    """
    place = PolicyPlace(model, base_url, api_key_env, concurrent, batch_size, device)
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    asked = Asked(names, data, limit, shots, standard, max_tokens)
    evaluate_by_lm_eval(place, asked, Path(output))
    show_folder(output, as_json)
