"""The training part of a recipe: from pairs and a config to `model/`, `training.jsonl` and the facts about them.

A model whose inputs have not changed is not trained again; a training that was killed goes on from its last
checkpoint. Knows nothing of teachers' calls and of evaluation.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers

from reward_distiller import __version__
from reward_distiller.config import Config, fill_data_folder
from reward_distiller.console import say
from reward_distiller.construct.pipeline import split_prompts
from reward_distiller.files import fingerprint
from reward_distiller.methods import method_named
from reward_distiller.model.adapters import add_adapters, check_adapters, merge_adapters, quantization
from reward_distiller.model.batches import EncodedPair, encode_pairs
from reward_distiller.model.chat import ChatFormat, load_chat, load_tokenizer
from reward_distiller.model.checkpoints import Checkpoints
from reward_distiller.model.export import reward_statistics, save_reward_model
from reward_distiller.model.loading import build_network, device_of, load_network, load_teacher_lm, scratch_lm
from reward_distiller.model.network import RewardNetwork
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.teacher_distributions import lm_head_of
from reward_distiller.model.teachers import ReferenceLM, StoredTeacher, TokenTeacher, check_vocabularies
from reward_distiller.model.trainer import Trainer, exact
from reward_distiller.model.training_log import check_trackers, open_log
from reward_distiller.processes import is_main
from reward_distiller.recipes.parts import Parts
from reward_distiller.records import Pair, content_id


def check_training(config: Config, parts: Parts, chat: ChatFormat) -> None:
    """Find out before anything is paid for what would stop the training: packages, the KL teacher's vocabulary."""
    check_trackers(config.training.log_to)
    check_adapters(config.student.lora)
    if method_named(config.method).objective(config).kl_weight > 0:
        if config.rm_distiller.kl_store:
            StoredTeacher.open(config.rm_distiller.kl_store, chat.tokenizer)
        else:
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
    """Train and write model/ and training.jsonl, unless model/ came from the very same inputs; give its facts."""
    method = method_named(config.method)
    objective = method.objective(config)
    settings = config.training
    key = _run_key(config, chat, pairs)
    known = _facts(folder / "model")
    if known.get("run_key") == key:
        say(f"train: {folder / 'model'} is up to date")
        return known
    dropped: Counter[str] = Counter()

    def encoded(part: list[Pair]) -> list[EncodedPair]:
        made, lost = encode_pairs(
            part, chat, settings.max_length, needs_margin=method.needs_margin, wants_teacher=objective.regularized
        )
        dropped.update(lost)
        return made

    to_train, to_validate = split_prompts(pairs, settings.validation, config.seed, "validation")
    training, validation = encoded(to_train), encoded(to_validate)
    if settings.validation and not validation:
        say("train: no prompt fell to the validation share; the last step's weights are kept")
    for reason, count in sorted(dropped.items()):
        say(f"train: {count} pairs: {reason}")
    network = _network(config, chat)
    trainer = Trainer(network, objective, settings, _token_teacher(config, parts, chat))
    checkpoints = Checkpoints(folder / "checkpoints", key, is_main())
    with open_log(folder / "training.jsonl", settings.log_to, folder.name, config.model_dump(mode="json")) as log:
        for _ in trainer.train(training, config.seed, validation, checkpoints, log):
            pass
    state = trainer.gathered()
    if not is_main():
        return {}
    if state is not None:
        network = _network(config, chat)
        network.load_state_dict(state)
    merge_adapters(network)
    source_of = {p.id: p.source for p in pairs}
    sources = Counter(source_of[e.id] for e in training)
    facts = {
        "run_key": key,
        "method": config.method,
        "pairs": len(training),
        "pairs_by_source": dict(sorted(sources.items())),
        "pairs_of_validation": len(validation),
        "dropped": dict(sorted(dropped.items())),
        "steps": trainer.steps,
        "needs_at_inference": None,
        **_reward_statistics(network, chat, training, config),
    }
    save_reward_model(network.to("cpu"), chat, folder / "model", facts)
    checkpoints.remove()
    return _facts(folder / "model")  # as a second run will read them


def _run_key(config: Config, chat: ChatFormat, pairs: list[Pair]) -> str:
    """The hash of all that the trained weights come from."""
    inputs = config.model_dump(mode="json", include={"method", "seed", "rm_distiller", "student", "training"})
    for name in ("checkpoint_every", "log_to"):  # they change nothing
        inputs["training"].pop(name)
    return content_id(
        {
            "pairs": [(p.id, p.chosen_score, p.rejected_score, p.teacher_response) for p in pairs],
            "config": inputs,
            "student": [fingerprint(chat.where), chat.tokenizer.chat_template],
            "kl_teacher": fingerprint(config.rm_distiller.kl_teacher or config.rm_distiller.kl_store or ""),
            "versions": [__version__, torch.__version__, transformers.__version__],
        }
    )


def _network(config: Config, chat: ChatFormat) -> RewardNetwork:
    student = config.student
    if student.from_scratch:
        network = build_network(scratch_lm(student.from_scratch, len(chat.tokenizer), config.seed), chat, config.seed)
    else:
        network = load_network(
            chat.where,
            chat,
            config.seed,
            generates=method_named(config.method).objective(config).regularized,
            revision=student.revision,
            trust_remote_code=student.trust_remote_code,
            **quantization(student.lora),
        )
    add_adapters(network, student.lora, config.seed)
    return network


def _kl_teacher(config: Config, parts: Parts, chat: ChatFormat) -> str:
    """The path of the KL teacher, its vocabulary checked."""
    name = config.rm_distiller.kl_teacher
    path = str(parts.kl_teacher()) if name == "testbed" else str(name)
    check_vocabularies(chat.tokenizer, load_tokenizer(path), path)
    return path


def _token_teacher(config: Config, parts: Parts, chat: ChatFormat) -> TokenTeacher | None:
    if method_named(config.method).objective(config).kl_weight == 0:
        return None
    if config.rm_distiller.kl_store:
        return StoredTeacher.open(config.rm_distiller.kl_store, chat.tokenizer)
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


def _facts(model: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((model / "config.json").read_text("utf-8"))["reward_distiller"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
