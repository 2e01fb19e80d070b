"""The models of a run: their chat templates, and whether the training fits into memory. Loads no weights.

Of a model on the Hub the config and the tokenizer are fetched, as any run does first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import transformers

from reward_distiller.config import AnyRun, Config, RewardSource, RLConfig, fill_data_folder
from reward_distiller.errors import ModelError, RewardDistillerError
from reward_distiller.methods import method_named
from reward_distiller.model.chat import load_tokenizer, read_template
from reward_distiller.model.loading import UNREADABLE, device_of, is_classifier, scratch_config
from reward_distiller.model.memory import Memory, Shape, training_memory
from reward_distiller.recipes.doctor.findings import Finding, ok, problem, warning
from reward_distiller.recipes.doctor.machine import available_memory, gib
from reward_distiller.recipes.doctor.runs import sections
from reward_distiller.recipes.doctor.template import check_template
from reward_distiller.recipes.store import TESTBED, store_of
from reward_distiller.rl.memory import PolicyMemory, policy_memory

OVERHEAD = 2**30  # bytes: the libraries and a GPU's context
TIGHT = 0.75  # share of the memory from which on an estimate may be wrong by what is left (docs/training.md)
OF_STUDENT = (
    "Lower training.tokens_per_batch, set training.gradient_checkpointing or student.lora, or train in several "
    "processes (docs/training.md)"
)
OF_POLICY = (
    "Lower optimization.rows_per_batch, rollout.prompts_per_step or the lengths of rollout, set "
    "optimization.gradient_checkpointing, or train elsewhere: rl CONFIG --emit verl (docs/rl.md)"
)


def check_student(run: Config) -> Iterator[Finding]:
    student = run.student
    if student.model == TESTBED:
        yield ok("student", "the testbed's, of under a million parameters")
        return
    path = student.from_scratch.tokenizer if student.from_scratch else str(student.model)
    plain = {"revision": student.revision, "trust_remote_code": student.trust_remote_code}
    try:
        tokenizer = _tokenizer(fill_data_folder(path), student.chat_template, plain)
        yield from check_template("student's chat template", tokenizer)
        config = scratch_config(student.from_scratch, len(tokenizer)) if student.from_scratch else _config(path, plain)
        yield _fit(run, config)
    except RewardDistillerError as error:
        yield problem("student", str(error))


def check_policy(run: RLConfig) -> Iterator[Finding]:
    """And the reward models that it is trained with. What `made_by` names is as large as what it starts from."""
    rewards: list[Shape] = []
    for place, source in sections(run, RewardSource):
        if source.model is not None:
            found, config = _reward_model(place, source.model)
            yield found
            rewards += [Shape.of(config)] if config is not None else []
        elif source.made_by is not None:
            rewards += _shapes_of(store_of(run).made(source.made_by))
    policy = run.policy
    try:
        if policy.model not in (None, TESTBED):
            plain = {"revision": policy.revision, "trust_remote_code": policy.trust_remote_code}
            tokenizer = _tokenizer(str(policy.model), policy.chat_template, plain)
            yield from check_template("policy's chat template", tokenizer)
        for shape in _shapes_of(run):
            yield fit("policy's memory", policy_memory(shape, run, rewards), _free(run.optimization.device), OF_POLICY)
    except RewardDistillerError as error:
        yield problem("policy", str(error))


def _shapes_of(run: AnyRun) -> list[Shape]:
    """Of the model that a run trains; none where it is the testbed's, which is of no weight."""
    while isinstance(run, RLConfig) and run.policy.made_by is not None:
        run = store_of(run).made(run.policy.made_by)
    if isinstance(run, RLConfig) and run.policy.model not in (None, TESTBED):
        plain = {"revision": run.policy.revision, "trust_remote_code": run.policy.trust_remote_code}
        return [Shape.of(_config(str(run.policy.model), plain))]
    if isinstance(run, Config) and run.student.model not in (None, TESTBED):
        plain = {"revision": run.student.revision, "trust_remote_code": run.student.trust_remote_code}
        return [Shape.of(_config(str(run.student.model), plain))]
    return []


def _reward_model(place: str, path: str) -> tuple[Finding, Any]:
    """And its config, where it is one."""
    try:
        config = _config(path, {})
    except RewardDistillerError as error:
        return problem(place, str(error), "Distil one first: reward-distiller run CONFIG"), None
    if not is_classifier(config) or config.num_labels != 1:
        return problem(place, f"{path} is no reward model", "Name a classifier with one label"), None
    return ok(place, f"{path} is a reward model"), config


def _tokenizer(path: str, template: str | None, plain: dict[str, Any]) -> Any:
    tokenizer = load_tokenizer(path, **plain)
    if template:
        tokenizer.chat_template = read_template(fill_data_folder(template))
    return tokenizer


def _config(path: str, plain: dict[str, Any]) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(path, **plain)
    except UNREADABLE as error:
        raise ModelError(f"no model can be loaded from {path} ({str(error).splitlines()[0]})") from error


def _fit(run: Config, config: Any) -> Finding:
    stages = method_named(run.method).stages(run)
    regularized = any(stage.objective.regularized for stage in stages)
    need = training_memory(Shape.of(config, run.student.lora), run.training, run.student.lora, regularized=regularized)
    return fit("student's memory", need, _free(run.training.device), OF_STUDENT)


def _free(named: str | None) -> tuple[float, str]:
    """Free bytes of a device, and its type."""
    device = device_of(named)
    return (torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()), device.type


def fit(check: str, need: Memory | PolicyMemory, free: tuple[float, str], mend: str) -> Finding:
    """What an estimate says beside so many free bytes of a device."""
    total, (have, device) = need.total + OVERHEAD, free
    parts = ", ".join(f"{name} {gib(size)}" for name, size in vars(need).items())
    found = f"about {gib(total)} of {gib(have)} on {device} in one process ({parts})"
    if total > have:
        return problem(check, found, mend)
    if total > TIGHT * have:
        return warning(check, found, f"It may not fit. {mend}")
    return ok(check, found)
