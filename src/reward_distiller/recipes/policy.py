"""Recipe `rl`: a policy is trained by SFT, GRPO, DAPO or PPO, and looked at.

A run folder holds config.yaml, rl.jsonl (a row of figures a step), model/ (the policy as a plain checkpoint),
responses.jsonl (what it answers to the evaluation prompts), balance.json and results.json; no file but timing.json
holds a time. A training that was killed goes on from its last checkpoint; a policy whose inputs are the same is not
trained again.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.config import Annotation, DataSource, Labels, RewardSource, RewardTerm, RLConfig
from reward_distiller.console import say
from reward_distiller.construct.pseudo_rewards import JUDGE
from reward_distiller.errors import ConfigError, TrainingError
from reward_distiller.evaluate.statistics import mean_figure
from reward_distiller.files import fingerprint, write_json, write_rows, write_text
from reward_distiller.model.loading import device_of
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.model.trainer import exact
from reward_distiller.model.training_log import check_trackers, open_log
from reward_distiller.processes import processes
from reward_distiller.recipes.cards.policy_card import policy_card
from reward_distiller.recipes.labeling import form_of, labeler_of, labels_term
from reward_distiller.recipes.made import make
from reward_distiller.recipes.parts import Parts, RowKind
from reward_distiller.recipes.policies import open_policy, policy_path
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.store import Store, store_of
from reward_distiller.records import content_id
from reward_distiller.rl import grpo, ppo, sft
from reward_distiller.rl.emit import emit
from reward_distiller.rl.looks import Looks, Observer, Quality, Seen
from reward_distiller.rl.on_trl import import_trl
from reward_distiller.rl.policy import Policy
from reward_distiller.rl.reward import Reward, build_reward
from reward_distiller.rl.terms import NOTHING, Opened, Term, truth_term
from reward_distiller.rl.training import Task, Training
from reward_distiller.rows import Fields, rows_of
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.engine import Engine, open_engine
from reward_distiller.teacher.ledger_report import bought

LEDGER = "ledger.sqlite"  # of the run folder: what judges were asked
OVERLONG = "overlong"  # the term that dapo.overlong adds
ALGORITHMS: dict[str, Callable[[Training], None]] = {"grpo": grpo.train, "dapo": grpo.train, "ppo": ppo.train}


@dataclass(frozen=True)
class Data:
    """What is trained on and looked at. `responses` are the demonstrations' of SFT, else empty."""

    tasks: list[Task]
    responses: list[str]
    tests: list[Task]
    balances: list[Balance]


def run_policy(config: RLConfig, parts: Parts) -> dict[str, Any]:
    """Do the whole run, what it stands on first; give what results.json holds."""
    check_policy_run(config, parts)
    store = store_of(config)
    with run_folder(config) as folder, ExitStack() as stack:
        make(config, store)
        opened = OpenedRun(config, parts, store, stack)
        with exact(config.optimization.threads):
            facts = _train(folder, opened)
            results = _evaluate(folder, opened, facts) | {"cost": opened.cost()}
        card = policy_card(config, results, [task.prompt.id for task in opened.data.tasks])
        write_text(folder / "model" / "README.md", card)
        write_json(folder / "results.json", results)
        return results


def emit_for(config: RLConfig, parts: Parts, engine: str) -> list[Path]:
    """Write OUTPUT/ENGINE, what a distributed engine needs for this training; give its files.

    Raises ConfigError for what the engine cannot honour, and where the runs of `made_by` are still to be made.
    """
    store = store_of(config)
    folders = {place: Path(store.made(made).output) for place, made in config.made.items()}
    for place, folder in folders.items():
        if not (folder / "results.json").is_file():
            raise ConfigError(f"{place}.made_by: {folder} is not made yet. Make it first, or name what is there")
    models = {place: folder / "model" for place, folder in folders.items()}
    terms = {name: _with_path(term, models.get(f"rewards.{name}")) for name, term in config.rewards.items()}
    data: dict[str, Any] = {"prompts": [store.source(source) for source in config.prompts]}
    if config.demonstrations is not None:
        data["demonstrations"] = store.source(config.demonstrations)
    named = config.model_copy(update={"rewards": terms, **data})
    policy = str(models.get("policy") or config.policy.model)
    return emit(named, policy, engine, Path(config.output) / engine)


def _with_path(term: RewardTerm, path: Path | None) -> RewardTerm:
    return term.model_copy(update={"made_by": None, "model": str(path)}) if path else term


def check_policy_run(config: RLConfig, parts: Parts) -> None:
    """Find out before anything is made or trained what would stop the run."""
    if processes() > 1:
        raise ConfigError("rl trains in one process. For many GPUs: reward-distiller rl CONFIG --emit verl")
    if config.algorithm != "ppo":
        import_trl()
    check_trackers(config.optimization.log_to)
    device_of(config.optimization.device)
    for source in (*config.prompts, config.demonstrations, config.evaluation.prompts):
        if source is not None and source.path is not None:
            next(rows_of(source, seed=config.seed)[1], None)
    bare = {name: term for name, term in terms_of(config).items() if not _from_outside(term)}
    build_reward(bare, config.rollout.max_response_length, NOTHING)
    for term in config.rewards.values():
        if term.labels is not None:
            form_of(term.labels.answers, parts)
            if term.labels.judge is not None:
                check_environment(term.labels.judge)


def terms_of(config: RLConfig) -> dict[str, RewardTerm]:
    """The rewards of the config, and the soft punishment of responses that are too long where DAPO has one."""
    limit = config.rollout.max_response_length
    buffer = limit // 5 if config.dapo.overlong is None else config.dapo.overlong
    if config.algorithm != "dapo" or not buffer or OVERLONG in config.rewards:
        return config.rewards
    return {**config.rewards, OVERLONG: RewardTerm(overlong=buffer)}


def _from_outside(term: RewardTerm) -> bool:
    sources = [term, *(term.ensemble.members.values() if term.ensemble else ())]
    return bool(term.labels or term.truth) or any(source.model or source.made_by for source in sources)


class OpenedRun:
    """A run's parts, loaded. The ledger of a judge, where a term asks one, is closed with `stack`."""

    def __init__(self, config: RLConfig, parts: Parts, store: Store, stack: ExitStack):
        self.config, self.parts, self.store, self.stack = config, parts, store, stack
        self.engine: Engine | None = None  # of the judges
        self.device = device_of(config.optimization.device)
        self.start = policy_path(config.policy, parts, store)
        self.policy = self.open_policy(self.start)
        self.data = _read_data(config, parts, store, self.policy)
        self.reward = self._reward()
        self.reward_of_tests = self.reward.of_any_prompt() if self.reward else None
        self.quality = _quality(config, parts)

    def open_policy(self, path: str) -> Policy:
        rollout = self.config.rollout
        return open_policy(
            self.config.policy,
            path,
            rollout.max_response_length,
            device=self.device,
            temperature=rollout.temperature,
            top_p=rollout.top_p,
            precision=self.config.optimization.precision,
        )

    def _reward(self) -> Reward | None:
        terms = terms_of(self.config)
        opened = Opened(self._open_model, self._labels_term, lambda: truth_term(self.parts.quality))
        return build_reward(terms, self.policy.limit, opened) if terms else None

    def _open_model(self, source: RewardSource) -> RewardModel:
        path = source.model or str(Path(self.store.made(source.made_by).output) / "model")  # type: ignore[arg-type]
        return RewardModel.from_pretrained(path, device=str(self.device))

    def _labels_term(self, labels: Labels) -> Term:
        if labels.judge is not None and self.engine is None:
            ledger = Path(self.config.output) / LEDGER
            self.engine = self.stack.enter_context(open_engine(ledger, self.parts.transports))
        return labels_term(labeler_of(labels, Annotation(), self.parts, self.engine))

    def cost(self) -> list[dict[str, Any]]:
        """What judges have been asked, by whichever process of this run."""
        if self.engine is None:
            return []
        judges = [term.labels.judge for term in self.config.rewards.values() if term.labels]
        asked = {judge.model: judge for judge in judges if judge is not None}
        return [row for model in asked.values() for row in bought(self.engine.ledger, model, JUDGE)]

    def observer(self) -> Observer:
        reference = copy.deepcopy(self.policy.lm).requires_grad_(False).eval()
        return Observer(self.data.tests, reference, self.reward_of_tests, self.quality, self.config.seed)

    def key(self) -> str:
        """The hash of all that the trained weights come from."""
        return content_id(
            {
                "run": self.store.key(self.config),
                "start": [fingerprint(self.start), self.policy.chat.tokenizer.chat_template],
                "tasks": [
                    [task.prompt.id, *self.data.responses[at : at + 1]] for at, task in enumerate(self.data.tasks)
                ],
            }
        )


def _quality(config: RLConfig, parts: Parts) -> Quality | None:
    source = config.evaluation.prompts
    return parts.quality if source is not None and source.testbed is not None else None


# -- data -------------------------------------------------------------------------------------------


def _read_data(config: RLConfig, parts: Parts, store: Store, policy: Policy) -> Data:
    sft = config.algorithm == "sft"
    sources = [store.source(s) for s in ([config.demonstrations] if config.demonstrations and sft else config.prompts)]
    balances: list[Balance] = []
    found: dict[str, tuple[Task, str]] = {}
    for source in sources:
        kind: RowKind = "demonstrations" if sft else "prompts"
        found |= _tasks(source, kind, config, parts, policy, found.keys(), "duplicate prompt", balances)
    tasks, responses = [task for task, _ in found.values()], [response for _, response in found.values()]
    tests: list[Task] = []
    if config.evaluation.prompts is not None:
        own = _tasks(config.evaluation.prompts, "prompts", config, parts, policy, found.keys(), "trained on", balances)
        tests = [task for task, _ in own.values()]
    for balance in balances:
        say(balance.line())
    if not tasks:
        raise TrainingError("no prompt is left to train on. The lines above say what became of each")
    return Data(tasks, responses, tests, balances)


def _tasks(
    source: DataSource,
    kind: RowKind,
    config: RLConfig,
    parts: Parts,
    policy: Policy,
    had: Collection[str],
    why: str,
    balances: list[Balance],
) -> dict[str, tuple[Task, str]]:
    """Distinct prompts that fit, by id, in the order of the file; with the responses where they are demonstrations.

    Those that were `had` before are dropped, and `why` says what for.
    """
    own = parts.rows(source.testbed, kind) if source.testbed else None
    where, rows = rows_of(source, own, config.seed)
    balance = Balance(f"load {'evaluation prompts' if source is config.evaluation.prompts else kind}", "rows", 0)
    found: dict[str, tuple[Task, str]] = {}
    for number, row in rows:
        balance.total += 1
        fields = Fields(where, number, row, source.columns)
        prompt = fields.prompt()
        response = fields.response("response") if kind == "demonstrations" else ""
        opening = policy.opening(prompt.as_dicts())
        record = f"row {number}"
        if not prompt.messages[-1].content.strip():
            balance.lose("dropped", "empty prompt", record)
        elif kind == "demonstrations" and not response.strip():
            balance.lose("dropped", "empty response", record)
        elif prompt.id in found:
            balance.lose("dropped", "duplicate prompt", record)
        elif prompt.id in had:
            balance.lose("dropped", why, record)
        elif len(opening) > config.rollout.max_prompt_length:
            balance.lose("dropped", f"more than {config.rollout.max_prompt_length} tokens", record)
        else:
            found[prompt.id] = Task(prompt, opening, row), response
            balance.keep()
    balances.append(balance.check())
    return found


# -- training ---------------------------------------------------------------------------------------


def _train(folder: Path, opened: OpenedRun) -> dict[str, Any]:
    """Train and write model/ and rl.jsonl, unless model/ came from the very same inputs; give its facts."""
    config, key = opened.config, opened.key()
    write_json(folder / "balance.json", [balance.as_dict() for balance in opened.data.balances])
    known = _facts(folder / "model")
    if known.get("run_key") == key:
        say(f"rl: {folder / 'model'} is up to date")
        return known
    observer = opened.observer()
    if observer.tasks:
        observer.see(opened.policy, 1)  # a rule that cannot judge these prompts is found out now
    looks = Looks(observer, opened.policy, config.guards)
    start = time.perf_counter()
    with open_log(folder / "rl.jsonl", config.optimization.log_to, folder.name, config.model_dump(mode="json")) as log:
        if config.algorithm == "sft":
            pairs = [(task.prompt, text) for task, text in zip(opened.data.tasks, opened.data.responses, strict=True)]
            sft.train(config, opened.policy, pairs, folder, key, log)
        else:
            assert opened.reward is not None
            training = Training(config, opened.policy, opened.data.tasks, opened.reward, folder, key, log, looks)
            ALGORITHMS[config.algorithm](training)
    facts = {"run_key": key, "algorithm": config.algorithm, "prompts": len(opened.data.tasks)}
    opened.policy.save(folder / "model", facts)
    write_json(folder / "timing.json", {"train_seconds": round(time.perf_counter() - start, 1)})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return facts


def _facts(model: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((model / "policy.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


# -- evaluation -------------------------------------------------------------------------------------


def _evaluate(folder: Path, opened: OpenedRun, facts: dict[str, Any]) -> dict[str, Any]:
    """Figures of the saved policy, as its users will load it, and of the one that it started from."""
    config = opened.config
    results: dict[str, Any] = {"recipe": config.recipe, "algorithm": config.algorithm, "seed": config.seed}
    results |= {"model": str(folder / "model"), "training": facts}
    if not opened.data.tests:
        return results
    start = opened.open_policy(opened.start)
    observer = Observer(opened.data.tests, start.lm.eval(), opened.reward_of_tests, opened.quality, config.seed)
    seen = observer.see(opened.open_policy(str(folder / "model")))
    rows = zip(opened.data.tests, seen.responses, strict=True)
    write_rows(folder / "responses.jsonl", [_answer(at, task, text, seen) for at, (task, text) in enumerate(rows)])
    return results | {"policy": _figures(seen), "start": _figures(observer.see(start))}


def _answer(at: int, task: Task, text: str, seen: Seen) -> dict[str, Any]:
    figures = {name: values[at] for name, values in seen.figures.items()}
    return {"id": task.prompt.id, "prompt": task.prompt.as_dicts(), "response": text, "figures": figures}


PERCENT = ("quality", "accuracy", "repetition")


def _figures(seen: Seen) -> dict[str, Any]:
    """Means over the prompts with bootstrap intervals: shares in percent, tokens, the KL in nats a response."""
    order = sorted(seen.figures, key=lambda name: name != "quality")
    scale = {name: 100.0 if name in PERCENT else 1.0 for name in order}
    return {name: mean_figure([scale[name] * v for v in seen.figures[name]]).as_dict() for name in order}
