"""The training part of a recipe: from pairs and a config to `model/`, `training.jsonl` and the facts about them.

A model whose inputs have not changed is not trained again; a training that was killed goes on from its last
checkpoint. Knows nothing of teachers' calls and of evaluation.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from reward_distiller import __version__
from reward_distiller.config import Config, Refined, fill_data_folder
from reward_distiller.console import say, track
from reward_distiller.construct.pipeline import split_prompts
from reward_distiller.errors import ConfigError
from reward_distiller.files import fingerprint, read_rows, write_json, write_rows
from reward_distiller.methods import method_named
from reward_distiller.methods.protocol import Stage
from reward_distiller.model.adapters import add_adapters, check_adapters, merge_adapters, quantization
from reward_distiller.model.batches import EncodedPair, encode_pairs
from reward_distiller.model.chat import ChatFormat, load_chat, load_tokenizer
from reward_distiller.model.checkpoints import Checkpoints
from reward_distiller.model.critiques import CritiqueNeed, self_critic, with_critique
from reward_distiller.model.export import reward_statistics, save_reward_model
from reward_distiller.model.loading import (
    build_network,
    check_student,
    device_of,
    load_network,
    load_teacher_lm,
    scratch_lm,
)
from reward_distiller.model.network import RewardNetwork, fold_attributes
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.teacher_distributions import lm_head_of
from reward_distiller.model.teachers import ReferenceLM, StoredTeacher, TokenTeacher, check_vocabularies
from reward_distiller.model.trainer import Trainer, exact
from reward_distiller.model.training_log import check_trackers, open_log
from reward_distiller.processes import is_main, processes
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import Pair, content_id

DISTRIBUTIONS = "distributions.safetensors"  # of a run whose teacher gives them with its responses
OWN_CRITIQUES = "own_critiques.jsonl"
IN_THE_ID = {"prompt", "chosen", "rejected", "source"}  # of a pair: what its id is the hash of


def check_training(config: Config, parts: Parts, chat: ChatFormat) -> None:
    """Find out before anything is paid for what would stop the training: packages, the KL teacher's vocabulary."""
    check_trackers(config.training.log_to)
    check_adapters(config.student.lora)
    stages = method_named(config.method).stages(config)
    if not config.student.from_scratch:
        check_student(chat.where, **_student_options(config))
    if len(stages) > 1 and processes() > 1:
        raise ConfigError(f"method {config.method} writes its own critiques between two trainings: use one process")
    if any(stage.objective.kl_weight > 0 for stage in stages):
        if store := _kl_settings(config).kl_store:
            StoredTeacher.open(store, chat.tokenizer)
        elif not asks_for_chances(config):
            _kl_teacher(config, parts, chat)


def student_chat(config: Config, parts: Parts) -> ChatFormat:
    """The student's tokenizer with its chat template, checked. Raises ModelError before anything is paid for."""
    student = config.student
    if student.from_scratch:
        path = fill_data_folder(student.from_scratch.tokenizer)
    else:
        path = str(parts.student()) if student.model == "testbed" else str(student.model)
    template = fill_data_folder(student.chat_template) if student.chat_template else None
    return load_chat(path, template=template, revision=student.revision, trust_remote_code=student.trust_remote_code)


def train_into(folder: Path, config: Config, parts: Parts, chat: ChatFormat, pairs: list[Pair]) -> dict[str, Any]:
    """Train and write model/ and training.jsonl, unless model/ came from the very same inputs; give its facts.

    timing.json says how long it took, through all restarts.
    """
    method = method_named(config.method)
    stages = method.stages(config)
    key = _run_key(folder, config, chat, pairs)
    known = facts_of(folder / "model")
    if known.get("run_key") == key:
        say(f"train: {folder / 'model'} is up to date")
        return known
    need = method.needs(config)
    network = _network(config, chat)
    done: list[_Trained] = []
    for stage in stages:
        if stage.own_critiques and need is not None:
            start = time.perf_counter()
            with exact(config.training.threads):
                pairs = _with_own_critiques(network, chat, pairs, need, config.training.max_length, folder, key)
            done[-1].seconds += time.perf_counter() - start
        done.append(_train(folder, config, parts, chat, network, stage, pairs, key))
    last = done[-1]
    if not is_main():
        return {}
    if last.weights is not None:
        network = _network(config, chat)
        network.load_state_dict(last.weights)
    merge_adapters(network)
    fold_attributes(network, stages[-1].objective.attributes)
    source_of = {p.id: p.source for p in pairs}
    facts = {
        "run_key": key,
        "method": config.method,
        "pairs": len(last.training),
        "pairs_by_source": dict(sorted(Counter(source_of[e.id] for e in last.training).items())),
        "pairs_of_validation": last.validated,
        "dropped": dict(sorted(last.dropped.items())),
        "steps": last.steps,
        "needs_at_inference": need.as_dict() if need else None,
        **_reward_statistics(network, chat, last.training, config),
    }
    save_reward_model(network.to("cpu"), chat, folder / "model", facts)
    write_json(folder / "timing.json", {"train_seconds": round(sum(d.seconds for d in done), 1)})
    for stage in stages:
        _checkpoints(folder, stage, key).remove()
    return facts_of(folder / "model")  # as a second run will read them


@dataclass
class _Trained:
    """What a stage read and did; `weights` where no process holds the whole network."""

    training: list[EncodedPair]
    validated: int
    dropped: Counter[str]
    steps: int
    seconds: float
    weights: dict[str, Any] | None


def _train(
    folder: Path,
    config: Config,
    parts: Parts,
    chat: ChatFormat,
    network: RewardNetwork,
    stage: Stage,
    pairs: list[Pair],
    key: str,
) -> _Trained:
    given = {"epochs": stage.epochs, "learning_rate": stage.learning_rate}
    settings = config.training.model_copy(update={name: value for name, value in given.items() if value is not None})
    dropped: Counter[str] = Counter()

    def encoded(part: list[Pair]) -> list[EncodedPair]:
        made, lost = encode_pairs(part, chat, settings.max_length, stage.reading)
        dropped.update(lost)
        return made

    to_train, to_validate = split_prompts(pairs, settings.validation, config.seed, "validation")
    judges = stage.objective.pair_weight > 0  # or there is no pair loss to choose weights by
    training, validation = encoded(to_train), encoded(to_validate) if judges else []
    if settings.validation and judges and not validation:
        say("train: no prompt fell to the validation share; the last step's weights are kept")
    for reason, count in sorted(dropped.items()):
        say(f"{stage.name}: {count} pairs: {reason}")
    trainer = Trainer(
        network, stage.objective, settings, _token_teacher(folder, config, parts, chat, stage), stage.name
    )
    log_file = folder / ("training.jsonl" if stage.name == "train" else f"training-{stage.name}.jsonl")
    run_name = folder.name if stage.name == "train" else f"{folder.name}-{stage.name}"
    with open_log(log_file, settings.log_to, run_name, config.model_dump(mode="json")) as log:
        for _ in trainer.train(training, config.seed, validation, _checkpoints(folder, stage, key), log):
            pass
    weights = trainer.gathered()
    trainer.end()
    return _Trained(training, len(validation), dropped, trainer.steps, trainer.seconds, weights)


def _checkpoints(folder: Path, stage: Stage, key: str) -> Checkpoints:
    """An earlier stage's last checkpoint stays until the last stage is through, so that a restart goes on behind it."""
    name = "checkpoints" if stage.name == "train" else f"checkpoints-{stage.name}"
    return Checkpoints(folder / name, key, is_main())


def _with_own_critiques(
    network: RewardNetwork,
    chat: ChatFormat,
    pairs: list[Pair],
    need: CritiqueNeed,
    max_length: int,
    folder: Path,
    key: str,
) -> list[Pair]:
    """The pairs with critiques that the network writes itself. They are kept in own_critiques.jsonl for a restart.

    None is written about what is too long without one: such a pair is dropped when it is encoded.
    """
    file = folder / OWN_CRITIQUES
    written = written_critiques(file, key)
    if written is None:
        turns = {(p.prompt.id, text): p.prompt.as_dicts() for p in pairs for text in (p.chosen, p.rejected)}
        room = [
            (at, (messages, [at[1]]))
            for at, messages in turns.items()
            if len(chat.encode(with_critique(messages, at[1], need.request), "")) <= max_length
        ]
        critic = self_critic(network.classifier, network.lm_head, chat, need)
        with track("critiques", len(room)) as advance:
            texts = critic([row for _, row in room], advance)
        critique = {at: text for (at, _), (text,) in zip(room, texts, strict=True)}
        written = {p.id: [critique.get((p.prompt.id, text), "") for text in (p.chosen, p.rejected)] for p in pairs}
        rows = ({"run_key": key, "id": at, "chosen": w, "rejected": l} for at, (w, l) in written.items())
        write_rows(file, rows)
    return [
        p.model_copy(update=dict(zip(("chosen_critique", "rejected_critique"), written[p.id], strict=True)))
        for p in pairs
    ]


def written_critiques(file: Path, key: str) -> dict[str, list[str]] | None:
    """What a run that was cut off has written; None where there is nothing, or nothing of the same inputs."""
    if not file.is_file():
        return None
    rows = [row for _, row in read_rows(file)]
    if any(row.get("run_key") != key for row in rows):
        return None
    return {row["id"]: [row["chosen"], row["rejected"]] for row in rows}


def asks_for_chances(config: Config) -> bool:
    """Whether the teacher's distributions come with its own responses, into the run folder."""
    return bool(_kl_settings(config).reference_fields)


def _run_key(folder: Path, config: Config, chat: ChatFormat, pairs: list[Pair]) -> str:
    """The hash of all that the trained weights come from."""
    kl = _kl_settings(config)
    store = str(folder / DISTRIBUTIONS) if asks_for_chances(config) else kl.kl_store
    inputs = config.model_dump(mode="json", include={"method", "seed", "student", "training", config.method})
    for name in ("checkpoint_every", "log_to"):  # they change nothing
        inputs["training"].pop(name)
    return content_id(
        {
            "pairs": [p.model_dump(mode="json", exclude={*IN_THE_ID, "provenance"}) for p in pairs],
            "config": inputs,
            "student": [fingerprint(chat.where), chat.tokenizer.chat_template],
            "kl_teacher": fingerprint((kl.kl_teacher or store or "") if kl.beta else ""),
            "versions": [__version__, torch.__version__, transformers.__version__],
        }
    )


def _student_options(config: Config) -> dict[str, Any]:
    """How the student is loaded, and what the method's stages ask of it."""
    stages = method_named(config.method).stages(config)
    return {
        "attributes": len(stages[-1].objective.attributes),
        "generates": any(stage.objective.regularized for stage in stages),
        "revision": config.student.revision,
        "trust_remote_code": config.student.trust_remote_code,
    }


def _network(config: Config, chat: ChatFormat) -> RewardNetwork:
    student, options = config.student, _student_options(config)
    if student.from_scratch:
        lm = scratch_lm(student.from_scratch, len(chat.tokenizer), config.seed)
        network = build_network(lm, chat, config.seed, options["attributes"])
    else:
        network = load_network(chat.where, chat, config.seed, **options, **quantization(student.lora))
    add_adapters(network, student.lora, config.seed)
    return network


def _kl_settings(config: Config) -> Refined:
    """The method's own; what stands there by default names no teacher."""
    own = config.of_method
    return own if isinstance(own, Refined) else Refined(beta=0.0)


def _kl_teacher(config: Config, parts: Parts, chat: ChatFormat) -> str:
    """The path of the KL teacher, its vocabulary checked."""
    name = _kl_settings(config).kl_teacher
    path = str(parts.kl_teacher()) if name == "testbed" else str(name)
    check_vocabularies(chat.tokenizer, load_tokenizer(path), path)
    return path


def _token_teacher(folder: Path, config: Config, parts: Parts, chat: ChatFormat, stage: Stage) -> TokenTeacher | None:
    if stage.objective.kl_weight == 0:
        return None
    if asks_for_chances(config):
        return StoredTeacher.open(folder / DISTRIBUTIONS, chat.tokenizer, gaps=True)
    if store := _kl_settings(config).kl_store:
        return StoredTeacher.open(store, chat.tokenizer)
    lm = load_teacher_lm(_kl_teacher(config, parts, chat), device_of(config.training.device))
    lm_head_of(lm)
    return ReferenceLM(lm)


def _reward_statistics(
    network: RewardNetwork, chat: ChatFormat, encoded: list[EncodedPair], config: Config
) -> dict[str, float]:
    """Mean and standard deviation of the rewards of the training responses."""
    with exact(config.training.threads):
        model = RewardModel(network.classifier, chat, layout=config.training.layout)
        sequences = list({s.ids: s for p in encoded for s in (p.chosen, p.rejected)}.values())
        return reward_statistics(model.score_encoded(sequences))


def facts_of(model: Path) -> dict[str, Any]:
    """What a reward model's config.json says of its training; empty where there is none that can be read."""
    try:
        return dict(json.loads((model / "config.json").read_text("utf-8"))["reward_distiller"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
