"""Recipe `reward_model`: construct pairs, train, evaluate (system one, with any method).

A run folder holds config.yaml, environment.json, pairs.jsonl, data_card.md, balance.json, quarantine.jsonl,
training.jsonl, model/, results.json, held_out.jsonl, pair_rewards.jsonl, token_values.jsonl and, where the config names
benchmarks, evaluation/. None of them holds a time or a path of the machine, so two runs can be compared byte by byte.
Running again goes on from the ledger; a model whose inputs are the same is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.config import ChatModel, Config, parse_config
from reward_distiller.console import say
from reward_distiller.construct.estimate import StepEstimate, estimate
from reward_distiller.construct.labeled_responses import LabeledResponse, load_responses, pairs_within, singles
from reward_distiller.construct.load import load_pairs, load_prompts
from reward_distiller.construct.pairs import write_pairs
from reward_distiller.construct.pipeline import Construction, split_prompts
from reward_distiller.errors import ConfigError, NeedsCritique, TrainingError
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.contamination import text_of
from reward_distiller.files import write_json, write_rows, write_text
from reward_distiller.methods import method_named
from reward_distiller.model.chat import ChatFormat
from reward_distiller.model.loading import device_of
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.processes import is_main, processes
from reward_distiller.recipes.answering import Loaded, load_all
from reward_distiller.recipes.cards.data_card import data_card
from reward_distiller.recipes.cards.reward_model_card import reward_model_card
from reward_distiller.recipes.critics import TeacherCritic, teacher_critic
from reward_distiller.recipes.distributions import keep_distributions
from reward_distiller.recipes.evaluation import evaluate
from reward_distiller.recipes.held_out import figures_on_testbed, held_out_figures
from reward_distiller.recipes.made import make
from reward_distiller.recipes.pair_rewards import write_pair_rewards
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.scorers import ModelScorer
from reward_distiller.recipes.store import store_of
from reward_distiller.recipes.training import DISTRIBUTIONS, asks_for_chances, check_training, student_chat, train_into
from reward_distiller.records import Pair, Prompt
from reward_distiller.rows import rows_of
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.ledger import Ledger, LedgerReader
from reward_distiller.teacher.prompts import Templates
from reward_distiller.yaml_text import apply_override


@dataclass(frozen=True)
class Constructed:
    """The pairs, what became of everything else, and what it took: one row of cost a step and model."""

    pairs: list[Pair]
    balances: list[Balance]
    cost: list[dict[str, Any]]
    singles: list[Pair] = field(default_factory=list)  # what a method that reads responses one by one is trained on


@dataclass(frozen=True)
class Inputs:
    """All that is read and checked before the first call."""

    prompts: list[Prompt]
    labeled: list[Pair]
    balance: Balance
    templates: Templates
    responses: list[LabeledResponse] = field(default_factory=list)


def run(config: Config, parts: Parts) -> dict[str, Any]:
    """Do the whole run; give what results.json holds."""
    if processes() > 1:
        raise ConfigError(
            "run makes its calls in one process. First reward-distiller construct CONFIG, then train in many: "
            "accelerate launch -m reward_distiller train --pairs OUTPUT/pairs.jsonl ..."
        )
    with run_folder(config) as folder:
        make(config, store_of(config))
        chat = student_chat(config, parts)
        check_training(config, parts, chat)  # what is wrong is found before anything is paid for
        tests = benchmarks_of(config)
        return _train_and_evaluate(folder, config, parts, chat, construct_into(folder, config, parts), tests)


def check_run(config: Config, parts: Parts) -> None:
    """Find out before anything is made or paid for what would stop the run."""
    if not config.made:
        read_inputs(config, parts)
    check_training(config, parts, student_chat(config, parts))


def training_config(pairs: str, student: str, output: str, method: str, overrides: list[str]) -> Config:
    """The config of `train`: labeled pairs with recorded scores, no teacher, no refinement."""
    data: dict[str, Any] = {
        "method": method,
        "scenario": "labeled",
        "output": output,
        "pairs": {"path": pairs},
        "student": {"model": student},
        "rm_distiller": {"refine": False, "beta": 0.0},
    }
    for override in overrides:
        apply_override(data, override)
    config = parse_config(data, where="train")
    if config.teacher is not None or config.rm_distiller.refine:
        raise ConfigError("train asks no teacher: leave out `teacher` and `rm_distiller.refine`, or use `run`")
    return config


def train_on_pairs(config: Config, parts: Parts) -> dict[str, Any]:
    """Train and evaluate on pairs as they stand: the label is taken as it is, scores are needed for a margin only."""
    method = method_named(config.method)
    assert config.pairs is not None
    where, rows = rows_of(config.pairs, seed=config.seed)
    scored = "overall" in method.stages(config)[-1].reading.scores
    pairs, balance = load_pairs(where, rows, config.pairs.columns, scored=scored)
    say(balance.line())
    with run_folder(config) as folder:
        chat = student_chat(config, parts)
        check_training(config, parts, chat)
        tests = benchmarks_of(config)
        return _train_and_evaluate(folder, config, parts, chat, Constructed(pairs, [balance], []), tests)


def _train_and_evaluate(
    folder: Path, config: Config, parts: Parts, chat: ChatFormat, made: Constructed, tests: list[Loaded]
) -> dict[str, Any]:
    """Split off the held-out prompts, train, evaluate, write results.json and the card."""
    training, rest = split_prompts(made.pairs, config.evaluation.held_out, config.seed)
    if made.singles:
        training, _ = split_prompts(made.singles, config.evaluation.held_out, config.seed)
    held_out = [p for p in rest if p.source in ("sampled", "labeled")]  # what a method made of them is no test
    _check_critiques(config, [*training, *held_out])
    if asks_for_chances(config):
        keep_distributions(folder / DISTRIBUTIONS, config, parts, chat, training)
    facts = train_into(folder, config, parts, chat, training)
    if not is_main():
        return {}
    results, cost = evaluate_run(folder, config, parts, training, held_out, tests, made.pairs)
    results |= {"pairs_held_out": len(held_out), "training": facts, "cost": [*made.cost, *cost]}
    method = method_named(config.method).describe(config)
    card = reward_model_card(config, method, results, made.balances, training)
    write_text(folder / "model" / "README.md", card)
    write_json(folder / "results.json", results)
    return results


# -- construct --------------------------------------------------------------------------------------


def read_inputs(config: Config, parts: Parts) -> Inputs:
    """Load and check everything that a run stands on. Raises before any call is made."""
    plan = method_named(config.method).plan(config)
    plan.check(has_teacher=config.teacher is not None)
    if config.scenario == "unlabeled" and plan.draws_candidates and len(config.candidates) < 2:
        raise ConfigError(f"method {config.method} needs at least two `candidates` to draw two responses from")
    device_of(config.training.device)
    for model in config.chat_models:
        check_environment(model)
    templates = Templates(config.annotation.templates)
    store = store_of(config)
    if config.scenario == "responses":
        sources = [store.source(source) for source in config.responses]
        responses, balance = load_responses((*rows_of(s, seed=config.seed), s.columns) for s in sources)
        return Inputs([], [], balance, templates, responses)
    given = config.prompts or config.pairs
    assert given is not None
    source = store.source(given)
    own = parts.rows(source.testbed, "pairs" if config.pairs else "prompts") if source.testbed else None
    where, rows = rows_of(source, own, config.seed)
    if config.prompts:
        prompts, balance = load_prompts(where, rows, source.columns)
        return Inputs(prompts, [], balance, templates)
    pairs, balance = load_pairs(where, rows, source.columns, scored=config.teacher is None)
    return Inputs([], pairs, balance, templates)


def construct_into(folder: Path, config: Config, parts: Parts, *, offline: bool = False) -> Constructed:
    """Write pairs.jsonl, balance.json and quarantine.jsonl. `offline` asks nobody but the ledger."""
    inputs = read_inputs(config, parts)
    if config.scenario == "responses":
        return _constructed_of_responses(folder, config, inputs)
    asked = asked_models(config, parts)
    with open_engine(config.ledger_path, parts.transports, config.budget, asked, offline=offline) as engine:
        construction, steps = construction_of(config, parts, inputs, engine)
        try:
            pairs = steps()
        finally:
            _write_balances(folder, construction.balances)
        engine.say_calls()
        cost = engine.cost()
    return _written(folder, config, Constructed(pairs, construction.balances, cost))


def _constructed_of_responses(folder: Path, config: Config, inputs: Inputs) -> Constructed:
    """Nobody is asked: the pseudo-rewards are there."""
    nearest = config.pairing == "nearest"
    pairs, balance = pairs_within(
        inputs.responses, config.pairs_per_prompt, config.seed, nearest=nearest, min_margin=config.min_margin
    )
    balances = [inputs.balance, balance]
    _write_balances(folder, balances)
    one_by_one = method_named(config.method).stages(config)[-1].reading.singles
    return _written(folder, config, Constructed(pairs, balances, [], singles(inputs.responses) if one_by_one else []))


def _written(folder: Path, config: Config, made: Constructed) -> Constructed:
    if not made.pairs:
        raise TrainingError(f"no pair came out. {folder / 'balance.json'} says what became of each record")
    write_pairs(folder / "pairs.jsonl", made.pairs)
    write_text(folder / "data_card.md", data_card(config, made.pairs, made.balances, made.cost))
    return made


def asked_models(config: Config, parts: Parts) -> list[ChatModel]:
    """All chat models that construction asks."""
    return [parts.chat_model(m) for m in config.chat_models]


def construction_of(
    config: Config, parts: Parts, inputs: Inputs, engine: Engine
) -> tuple[Construction, Callable[[], list[Pair]]]:
    """The construction of a config, and what runs its steps."""
    plan = method_named(config.method).plan(config)
    teacher = parts.chat_model(config.teacher) if config.teacher else None
    construction = Construction(engine, teacher, inputs.templates, config.seed, config.annotation)
    construction.balances.append(inputs.balance)
    if config.scenario == "labeled":
        return construction, partial(construction.labeled, inputs.labeled, plan)
    candidates = [parts.chat_model(m) for m in config.candidates]
    return construction, partial(construction.unlabeled, inputs.prompts, candidates, plan)


def dry_run(config: Config, parts: Parts) -> tuple[Inputs, list[StepEstimate]]:
    """Check everything and count the calls, making none and writing nothing."""
    inputs = read_inputs(config, parts)
    plan = method_named(config.method).plan(config)
    candidates = [parts.chat_model(m) for m in config.candidates]
    teacher = parts.chat_model(config.teacher) if config.teacher else None
    if config.student.model != "testbed":
        student_chat(config, parts)

    def count(ledger: LedgerReader | None) -> list[StepEstimate]:
        return estimate(
            ledger,
            inputs.prompts,
            inputs.labeled,
            candidates,
            teacher,
            inputs.templates,
            plan,
            config.seed,
            config.annotation,
        )

    if not config.ledger_path.exists():
        return inputs, count(None)
    with Ledger.read(config.ledger_path) as ledger:
        return inputs, count(ledger)


def _write_balances(folder: Path, balances: list[Balance]) -> None:
    for balance in balances:
        say(balance.line())
    write_json(folder / "balance.json", [b.as_dict() for b in balances])
    write_rows(folder / "quarantine.jsonl", [row for b in balances for row in b.quarantine])


# -- evaluate ---------------------------------------------------------------------------------------


def benchmarks_of(config: Config) -> list[Loaded]:
    """The benchmarks that the config names, read and checked."""
    return load_all([(benchmark_named(name), path) for name, path in config.evaluation.benchmarks.items()])


def evaluate_run(
    folder: Path,
    config: Config,
    parts: Parts,
    training: list[Pair],
    held_out: list[Pair],
    tests: list[Loaded],
    pairs: list[Pair],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Figures of the saved checkpoint, as its users will load it, beside what trivial scorers get; and their cost.

    Of all `pairs` the report shows what the model says.
    """
    results: dict[str, Any] = {"method": config.method, "seed": config.seed, "model": str(folder / "model")}
    if not held_out and not config.evaluation.testbed_prompts and not tests and not config.report.pairs:
        return results, []
    with _critic(config, parts) as critic:
        model = RewardModel.from_pretrained(
            str(folder / "model"),
            device=config.training.device,
            max_length=config.evaluation.max_length or config.training.max_length,
            critic=critic,
        )
        audits: dict[str, Any] = {}
        if held_out:
            results |= held_out_figures(model, training, held_out)
            audits |= results.pop("bias_audit", {})
        if config.evaluation.testbed_prompts:
            items = parts.style_items(config.evaluation.testbed_prompts, config.evaluation.testbed_tasks)
            results |= figures_on_testbed(model, items)
            audits |= results.pop("bias_audit")
        if tests:
            scorer = ModelScorer(model, str(folder / "model"))
            prompts = {pair.prompt.id: text_of(pair.prompt) for pair in training}
            found = evaluate(scorer, tests, folder / "evaluation", training=list(prompts.items()))
            results |= {name: benchmark["metrics"] for name, benchmark in found["benchmarks"].items()}
            results["contamination"] = found["contamination"]["benchmarks"]
        if audits:
            results["bias_audit"] = audits
        write_pair_rewards(folder, config, model, pairs)
        return results, critic.cost() if critic else []


@contextmanager
def _critic(config: Config, parts: Parts) -> Iterator[TeacherCritic | None]:
    """The teacher, for a method that reads its critiques; None where pairs bring theirs along, or none are read."""
    if config.teacher and _reads_teacher(config):
        with teacher_critic(config, parts) as critic:
            yield critic
    else:
        yield None


def _reads_teacher(config: Config) -> bool:
    need = method_named(config.method).needs(config)
    return need is not None and need.source == "teacher"


def _check_critiques(config: Config, pairs: list[Pair]) -> None:
    """Find out before training what evaluation would miss: a teacher's critiques where there is no teacher to ask."""
    if config.teacher or not _reads_teacher(config):
        return
    if config.evaluation.testbed_prompts or config.evaluation.benchmarks:
        raise ConfigError(f"method {config.method} reads critiques of the test set's responses: name a `teacher`")
    for pair in pairs:
        if pair.chosen_critique is None or pair.rejected_critique is None:
            raise NeedsCritique(
                f"pair {pair.id}: method {config.method} reads critiques, and it has not both. Add them"
            )
