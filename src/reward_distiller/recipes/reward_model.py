"""Recipe `reward_model`: construct pairs, train, evaluate (system one, with any method).

A run folder holds config.yaml, pairs.jsonl, balance.json, quarantine.jsonl, training.jsonl, model/ and
results.json. None of them holds a time or a path of the machine, so two runs can be compared byte by byte.
Running again goes on from the ledger; a model whose inputs have not changed is not trained again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

from reward_distiller import __version__
from reward_distiller.config import ChatModel, Config, apply_override, fill_data_folder, parse_config
from reward_distiller.console import say, track
from reward_distiller.construct.balance import Balance
from reward_distiller.construct.load import load_pairs, load_prompts, rows_of
from reward_distiller.construct.pairs import write_pairs
from reward_distiller.construct.pipeline import Construction, StepEstimate, estimate, split_prompts
from reward_distiller.errors import ConfigError, TrainingError
from reward_distiller.evaluate.pair_accuracy import RowScorer, accuracy, by_rewards, longer, source_model
from reward_distiller.evaluate.style_matrix import style_accuracy
from reward_distiller.files import fingerprint, locked, remove_partial, write_json, write_rows, write_text
from reward_distiller.methods import method_named
from reward_distiller.model.batches import EncodedPair, encode_pairs
from reward_distiller.model.chat import ChatFormat, load_tokenizer, read_template
from reward_distiller.model.export import reward_statistics, save_reward_model
from reward_distiller.model.network import build_network, device_of, load_causal_lm, scratch_lm
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import ReferenceLM, Trainer, check_vocabularies
from reward_distiller.recipes.card import model_card
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import Pair, Prompt, content_id
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.prompts import Templates


@dataclass(frozen=True)
class Constructed:
    """The pairs, what became of everything else, and what it took: one row of cost a step and model."""

    pairs: list[Pair]
    balances: list[Balance]
    cost: list[dict[str, Any]]


@dataclass(frozen=True)
class Inputs:
    """All that is read and checked before the first call."""

    prompts: list[Prompt]
    labeled: list[Pair]
    balance: Balance
    templates: Templates


def run(config: Config, parts: Parts) -> dict[str, Any]:
    """Do the whole run; give what results.json holds."""
    with run_folder(config) as folder:
        chat = student_chat(config, parts)
        if method_named(config.method).objective(config).kl_weight > 0:
            _kl_teacher(config, parts, chat)  # a wrong one is found before anything is paid for
        return _train_and_evaluate(folder, config, parts, chat, construct_into(folder, config, parts))


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
    pairs, balance = load_pairs(where, rows, config.pairs.columns, scored=method.needs_margin)
    say(balance.line())
    with run_folder(config) as folder:
        chat = student_chat(config, parts)
        return _train_and_evaluate(folder, config, parts, chat, Constructed(pairs, [balance], []))


def _train_and_evaluate(
    folder: Path, config: Config, parts: Parts, chat: ChatFormat, made: Constructed
) -> dict[str, Any]:
    """Split off the held-out prompts, train, evaluate, write results.json and the card."""
    training, held_out = split_prompts(made.pairs, config.evaluation.held_out, config.seed)
    facts = train_into(folder, config, parts, chat, training)
    results = evaluate_run(folder, config, parts, training, held_out)
    results |= {"pairs_held_out": len(held_out), "training": facts, "cost": made.cost}
    method = method_named(config.method).describe(config)
    write_text(folder / "model" / "README.md", model_card(config, method, results, made.balances))
    write_json(folder / "results.json", results)
    return results


@contextmanager
def run_folder(config: Config) -> Iterator[Path]:
    """The run's folder, locked, with the resolved config in it."""
    folder = Path(config.output)
    with locked(folder / ".lock", ConfigError):
        remove_partial(folder)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        if _read(folder / "config.yaml") != text:
            (folder / "results.json").unlink(missing_ok=True)  # they are another config's
            write_text(folder / "config.yaml", text)
        yield folder


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.is_file() else None


# -- construct --------------------------------------------------------------------------------------


def read_inputs(config: Config, parts: Parts) -> Inputs:
    """Load and check everything that a run stands on. Raises before any call is made."""
    method_named(config.method)
    device_of(config.training.device)
    for model in [*config.candidates, *([config.teacher] if config.teacher else [])]:
        check_environment(model)
    templates = Templates(config.annotation.templates)
    source = config.prompts or config.pairs
    assert source is not None
    where, rows = rows_of(source, parts.rows(source.testbed) if source.testbed else None, config.seed)
    if config.prompts:
        prompts, balance = load_prompts(where, rows, source.columns)
        return Inputs(prompts, [], balance, templates)
    pairs, balance = load_pairs(where, rows, source.columns, scored=config.teacher is None)
    return Inputs([], pairs, balance, templates)


def construct_into(folder: Path, config: Config, parts: Parts) -> Constructed:
    """Write pairs.jsonl, balance.json and quarantine.jsonl."""
    inputs = read_inputs(config, parts)
    plan = method_named(config.method).plan(config)
    candidates = [parts.chat_model(m) for m in config.candidates]
    teacher = parts.chat_model(config.teacher) if config.teacher else None
    with open_engine(config.ledger_path, parts.transports) as engine:
        construction = Construction(engine, teacher, inputs.templates, config.seed, config.annotation.allowed_failures)
        construction.balances.append(inputs.balance)
        try:
            if config.scenario == "unlabeled":
                pairs = construction.unlabeled(inputs.prompts, candidates, plan)
            else:
                pairs = construction.labeled(inputs.labeled, plan)
        finally:
            _write_balances(folder, construction.balances)
        say(f"calls: {engine.bought} sent now, the rest answered by the ledger")
        if engine.ledger.unknown_attempts:
            say(f"ledger: {engine.ledger.unknown_attempts} attempts of an earlier run have no known outcome")
        cost = _cost(engine, [*candidates, *([teacher] if teacher else [])])
    if not pairs:
        raise TrainingError(f"no pair came out. {folder / 'balance.json'} says what became of each record")
    write_pairs(folder / "pairs.jsonl", pairs)
    return Constructed(pairs, construction.balances, cost)


def dry_run(config: Config, parts: Parts) -> tuple[Inputs, list[StepEstimate]]:
    """Check everything and count the calls, making none and writing nothing."""
    inputs = read_inputs(config, parts)
    plan = method_named(config.method).plan(config)
    candidates = [parts.chat_model(m) for m in config.candidates]
    teacher = parts.chat_model(config.teacher) if config.teacher else None
    if config.student.model != "testbed":
        student_chat(config, parts)

    def count(engine: Engine | None) -> list[StepEstimate]:
        return estimate(
            engine, inputs.prompts, inputs.labeled, candidates, teacher, inputs.templates, plan, config.seed
        )

    if not config.ledger_path.exists():
        return inputs, count(None)
    with open_engine(config.ledger_path, parts.transports) as engine:
        return inputs, count(engine)


def _write_balances(folder: Path, balances: list[Balance]) -> None:
    for balance in balances:
        say(balance.line())
    write_json(folder / "balance.json", [b.as_dict() for b in balances])
    write_rows(folder / "quarantine.jsonl", [row for b in balances for row in b.quarantine])


def _cost(engine: Engine, models: list[ChatModel]) -> list[dict[str, Any]]:
    """One row a step and model; money is None where a price or a usage is unknown."""
    prices = {m.model: m.price for m in models}
    return [
        {"step": step, "model": model, **asdict(spent), "money": spent.money(prices[model])}
        for (step, model), spent in sorted(engine.spent.items())
    ]


# -- train ------------------------------------------------------------------------------------------


def student_chat(config: Config, parts: Parts) -> ChatFormat:
    """The student's tokenizer with its chat template, checked. Raises ModelError before anything is paid for."""
    student = config.student
    if student.from_scratch:
        path = fill_data_folder(student.from_scratch.tokenizer)
        tokenizer = load_tokenizer(path)
    else:
        path = str(parts.student()) if student.model == "testbed" else str(student.model)
        tokenizer = load_tokenizer(path, revision=student.revision, trust_remote_code=student.trust_remote_code)
    if student.chat_template:
        tokenizer.chat_template = read_template(fill_data_folder(student.chat_template))
    return ChatFormat(tokenizer, path)


def train_into(folder: Path, config: Config, parts: Parts, chat: ChatFormat, pairs: list[Pair]) -> dict[str, Any]:
    """Train and write model/ and training.jsonl, unless model/ came from the very same inputs; give its facts."""
    method = method_named(config.method)
    objective = method.objective(config)
    key = content_id(
        {
            "pairs": [(p.id, p.chosen_score, p.rejected_score, p.teacher_response) for p in pairs],
            "config": config.model_dump(mode="json", include={"method", "seed", "rm_distiller", "student", "training"}),
            "student": [fingerprint(chat.where), chat.tokenizer.chat_template],
            "kl_teacher": fingerprint(config.rm_distiller.kl_teacher or ""),
            "versions": [__version__, torch.__version__, transformers.__version__],
        }
    )
    known = _facts(folder / "model")
    if known.get("run_key") == key:
        say(f"train: {folder / 'model'} is up to date")
        return known
    encoded, dropped = encode_pairs(
        pairs, chat, config.training.max_length, needs_margin=method.needs_margin, wants_teacher=objective.regularized
    )
    for reason, count in sorted(dropped.items()):
        say(f"train: {count} pairs: {reason}")
    pad_id = chat.pad_token_id()
    network = build_network(_student_lm(config, parts, chat), chat, config.seed)
    reference = _reference(config, parts, chat) if objective.kl_weight > 0 else None
    trainer = Trainer(network, objective, config.training, pad_id, reference, device_of(config.training.device))
    log = list(trainer.train(encoded, config.seed))
    write_rows(folder / "training.jsonl", log)
    source_of = {p.id: p.source for p in pairs}
    sources = Counter(source_of[e.id] for e in encoded)
    facts = {
        "run_key": key,
        "method": config.method,
        "pairs": len(encoded),
        "pairs_by_source": dict(sorted(sources.items())),
        "dropped": dict(sorted(dropped.items())),
        "steps": len(log),
        "needs_at_inference": None,
        **_reward_statistics(network, chat, encoded),
    }
    save_reward_model(network.to("cpu"), chat, folder / "model", facts)
    return _facts(folder / "model")  # as a second run will read them


def _student_lm(config: Config, parts: Parts, chat: ChatFormat) -> Any:
    student = config.student
    if student.from_scratch:
        return scratch_lm(student.from_scratch, len(chat.tokenizer), config.seed)
    return load_causal_lm(chat.where, revision=student.revision, trust_remote_code=student.trust_remote_code)


def _kl_teacher(config: Config, parts: Parts, chat: ChatFormat) -> str:
    """The path of the KL teacher, its vocabulary checked."""
    name = config.rm_distiller.kl_teacher
    path = str(parts.kl_teacher()) if name == "testbed" else str(name)
    check_vocabularies(chat.tokenizer, load_tokenizer(path), path)
    return path


def _reference(config: Config, parts: Parts, chat: ChatFormat) -> ReferenceLM:
    device = device_of(config.training.device)
    # It is never trained, so half precision does where there is hardware for it.
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return ReferenceLM(load_causal_lm(_kl_teacher(config, parts, chat), dtype=dtype).to(device).eval())


def _reward_statistics(network: Any, chat: ChatFormat, encoded: list[EncodedPair]) -> dict[str, float]:
    """Mean and standard deviation of the rewards of the training responses."""
    model = RewardModel(network.classifier, chat)
    sequences = list({s.ids: s for p in encoded for s in (p.chosen, p.rejected)}.values())
    return reward_statistics(model.score_encoded(sequences))


def _facts(model: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((model / "config.json").read_text("utf-8"))["reward_distiller"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


# -- evaluate ---------------------------------------------------------------------------------------


def evaluate_run(
    folder: Path, config: Config, parts: Parts, training: list[Pair], held_out: list[Pair]
) -> dict[str, Any]:
    """Figures of the saved checkpoint, as its users will load it, beside what trivial scorers get."""
    results: dict[str, Any] = {"method": config.method, "seed": config.seed, "model": str(folder / "model")}
    if not held_out and not config.evaluation.testbed_prompts:
        return results
    model = RewardModel.from_pretrained(
        str(folder / "model"), device=config.training.device, max_length=config.training.max_length
    )

    def score(rows: Any) -> list[list[float]]:
        with track("score", sum(len(responses) for _, responses in rows)) as advance:
            return model.score_rows([(prompt.as_dicts(), responses) for prompt, responses in rows], advance)

    if held_out:
        results["held_out"] = _held_out(model, training, held_out, score)
    if config.evaluation.testbed_prompts:
        figures = style_accuracy(parts.style_items(config.evaluation.testbed_prompts), score)
        results["testbed"] = {name: figure.as_dict() for name, figure in figures.items()}
    return results


def _held_out(model: RewardModel, training: list[Pair], held_out: list[Pair], score: RowScorer) -> dict[str, Any]:
    """Accuracy on prompts never trained on, of the model and of scorers that read nothing."""
    fitting = [p for p in held_out if model.fits(p.prompt.as_dicts(), (p.chosen, p.rejected))]
    results: dict[str, Any] = {"too_long": len(held_out) - len(fitting)}
    if fitting:
        by_model = source_model(training)
        scorers = {"accuracy": by_rewards(fitting, score), "longer_response": longer}
        scorers |= {"source_model": by_model} if by_model else {}
        results |= {name: accuracy(fitting, scorer).as_dict() for name, scorer in scorers.items()}
    return results
