"""Recipe `policy lm-eval`: a policy's accuracy on GSM8K, GSM-Plus and MMLU-Pro, asked by lm-eval (Gao et al., 2024).

The folder holds results.json, table.md and every response with its grade (samples.jsonl), and is there whole or not at
all. Until then the responses are in a file beside it, lm-eval's own cache, so a killed evaluation goes on. Our tasks
read local files and grade by `reward_distiller.answers`; the standard ones are lm-eval's own, data and grading. Knows
no benchmark's rules.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from reward_distiller.console import say
from reward_distiller.errors import ConfigError, DataError, EndpointError
from reward_distiller.evaluate.metrics import figure, grouped, mean
from reward_distiller.evaluate.policy import lm_eval_tasks
from reward_distiller.evaluate.policy.lm_eval_tasks.figures import Sample, figures_of
from reward_distiller.evaluate.policy.lm_eval_tasks.grading import grader
from reward_distiller.evaluate.policy.protocol import PolicyFigures
from reward_distiller.files import fingerprint, new_folder, write_json, write_rows, write_text
from reward_distiller.model.chat import first_line
from reward_distiller.recipes.lm_eval_models import PolicyPlace, import_lm_eval, open_policy, quiet
from reward_distiller.recipes.policy_results import markdown, shown
from reward_distiller.records import content_id

TASKS = tuple(lm_eval_tasks.LOCAL_TASKS)
NEXT_QUESTION = "\nQuestion:"  # where a base model, asked in plain text, goes on to make up another


@dataclass(frozen=True)
class Asked:
    """What is asked: `limit` questions of each task, behind `shots` worked ones.

    Of standard tasks None leaves shots and `max_tokens` of a response to the task, and the limit is lm-eval's: the
    first so many of each subtask. `data` is the folder of our tasks' files, None for $REWARD_DISTILLER_DATA.
    """

    tasks: Sequence[str] = TASKS
    data: str | None = None
    limit: int | None = None
    shots: int | None = None
    standard: bool = False
    max_tokens: int | None = None


def evaluate_by_lm_eval(place: PolicyPlace, asked: Asked, output: Path) -> dict[str, Any]:
    """Give what results.json holds.

    Raises ConfigError for an unknown task or an output that is there, DataError for a file that is missing or not its
    benchmark's, ModelError or EndpointError for a policy that cannot be asked, MissingExtra without lm-eval.
    """
    unknown = [task for task in asked.tasks if task not in TASKS]
    twice = [task for task, count in Counter(asked.tasks).items() if count > 1]
    if unknown or twice or not asked.tasks:
        wrong = f"{unknown[0]!r} is none of {', '.join(TASKS)}" if unknown else f"{', '.join(twice) or 'none'} twice"
        raise ConfigError(f"tasks: {wrong}. Name each once, with commas between them")
    if output.exists():
        raise ConfigError(f"output: {output} is there already. Name another folder, or remove it")
    harness = import_lm_eval()
    with quiet(place):
        manager, loaded = _load(asked)
        lm = open_policy(place)
        if place.url is None:
            _check_room(lm, loaded["tasks"].values(), asked.max_tokens)
        responses = _responses(place, output)
        found = _ask(harness, lm, manager, loaded, place, asked, responses)
    benchmarks: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for name in asked.tasks:
        parts = loaded["group_map"].get(name, [name])
        samples = {part: found["samples"][part] for part in parts}
        if asked.standard:
            figures, part_rows = _standard(name, samples)
        else:
            ours = [_sample(name, sample) for sample in samples[name]]
            figures, part_rows = figures_of(ours), [sample.row() for sample in ours]
        cut = _cut(lm, [sample for part in samples.values() for sample in part]) if place.url is None else 0
        notes = [*figures.notes, *([f"{cut:,} prompts were too long for the model, and cut"] if cut else [])]
        benchmarks[name] = shown(PolicyFigures(figures.figures, notes, figures.details))
        rows += part_rows
    results: dict[str, Any] = {
        "policy": place.model if place.url else fingerprint(place.model),
        "served": place.url,
        "lm_eval": harness.__version__,
        "tasks": "standard" if asked.standard else "local",
        "shots": asked.shots,
        "limit": asked.limit,
        "max_tokens": asked.max_tokens,
        "benchmarks": benchmarks,
    }
    with new_folder(output) as folder:
        write_rows(folder / "samples.jsonl", rows)
        write_text(folder / "table.md", "\n".join(_table(name, one) for name, one in benchmarks.items()))
        write_json(folder / "results.json", results)
    _file(responses).unlink(missing_ok=True)
    return results


def _responses(place: PolicyPlace, output: Path) -> Path:
    """Where the responses of this very policy are kept while they come, beside the output; as lm-eval is told it."""
    policy = [place.url, place.model] if place.url else [fingerprint(place.model)]
    return output.with_name(f"{output.name}.responses-{content_id(policy)}")


def _file(responses: Path) -> Path:
    return responses.with_name(f"{responses.name}_rank0.db")


def _load(asked: Asked) -> tuple[Any, Any]:
    """lm-eval's manager and the tasks with their data, before any model is there."""
    from lm_eval.tasks import TaskManager

    if not asked.standard:
        folder = str(Path(lm_eval_tasks.__file__).parent)
        metadata = {"folder": asked.data, "limit": asked.limit, "shots": asked.shots or 0}
        manager = TaskManager(include_path=folder, include_defaults=False, metadata=metadata)
        return manager, {"groups": {}, "group_map": {}, **manager.load(list(asked.tasks))}
    say(f"lm-eval's own tasks {', '.join(asked.tasks)}: their data come from the Hub")
    manager = TaskManager()
    try:
        return manager, {"groups": {}, "group_map": {}, **manager.load(list(asked.tasks))}
    except (OSError, ValueError) as error:
        raise DataError(
            ", ".join(asked.tasks),
            f"lm-eval cannot load its data ({type(error).__name__}: {first_line(error)})",
            mend="Standard tasks need the network, or a filled cache; without --standard local files are read",
        ) from error


def _ask(harness: Any, lm: Any, manager: Any, loaded: Any, place: PolicyPlace, asked: Asked, responses: Path) -> Any:
    """lm-eval's results and samples. Raises EndpointError where a server failed for good."""
    settings = {"max_gen_toks": asked.max_tokens, "until": None if place.chat else [NEXT_QUESTION]}
    try:
        return harness.simple_evaluate(
            lm,
            tasks=[*loaded["groups"].values(), *_alone(loaded)],
            task_manager=manager,
            num_fewshot=asked.shots if asked.standard else asked.shots or 0,
            limit=asked.limit if asked.standard else None,
            apply_chat_template=place.chat,
            fewshot_as_multiturn=place.chat,
            gen_kwargs={name: value for name, value in settings.items() if value is not None} or None,
            bootstrap_iters=0,
            use_cache=str(responses),
        )
    except (OSError, aiohttp.ClientError, ValueError, LookupError) as error:
        if place.url is None:
            raise
        failed = f"{place.url} did not answer ({type(error).__name__}: {first_line(error)})"
    # Outside of the except: the other failed requests are gone by now, and asyncio has nothing to say of them later.
    raise EndpointError(f"{failed}. Check the server, the model's name and the key, then run again")


def _alone(loaded: Mapping[str, Any]) -> list[Any]:
    """The tasks that are in no group."""
    grouped_names = {name for members in loaded["group_map"].values() for name in members}
    return [task for name, task in loaded["tasks"].items() if name not in grouped_names]


def _check_room(lm: Any, tasks: Any, max_tokens: int | None) -> None:
    """Raises ConfigError where a local model's context cannot hold a response, let alone a prompt."""
    longest = max(max_tokens or task.config.generation_kwargs.get("max_gen_toks", lm.max_gen_toks) for task in tasks)
    if longest >= lm.max_length:
        raise ConfigError(
            f"max_tokens: a response may have {longest} tokens, and the model holds {lm.max_length} with the prompt. "
            "Give --max-tokens fewer"
        )


def _cut(lm: Any, samples: Sequence[Mapping[str, Any]]) -> int:
    """How many prompts lm-eval cut on the left, since prompt and response together were longer than a local model."""
    sent = [arguments for sample in samples for arguments in sample["arguments"]]
    asked = {(text, options.get("max_gen_toks", lm.max_gen_toks)) for text, options in sent}
    return sum(len(lm.tok_encode(text)) > lm.max_length - room for text, room in asked)


def _sample(task: str, sample: Mapping[str, Any]) -> Sample:
    doc, response = sample["doc"], _response(sample)
    grade = grader(task)(doc["gold"], response)
    return Sample(task, doc["id"], doc["label"], doc["group"], _prompt(sample), response, doc["gold"], grade)


def _response(sample: Mapping[str, Any]) -> str:
    return str(sample["resps"][0][0])


def _prompt(sample: Mapping[str, Any]) -> Any:
    """The text that was sent, or the messages."""
    sent = sample["arguments"][0][0]
    return sent if isinstance(sent, str) else json.loads(sent[0])


def _standard(name: str, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[PolicyFigures, list[Any]]:
    """Figures of lm-eval's own grading, one for each metric and filter, and of each subtask; and the graded rows."""
    rows: list[dict[str, Any]] = []
    values: dict[str, dict[str, float]] = {}
    for part, found in samples.items():
        for sample in found:
            for metric in sample["metrics"]:
                key, place = f"{metric}.{sample['filter']}", f"{part}:{sample['doc_id']}"
                values.setdefault(key, {})[place] = float(sample[metric])
                answer = sample["filtered_resps"][0]
                graded = {"filter": sample["filter"], "answer": answer, "gold": str(sample["target"])}
                asked = {"task": name, "id": place, "label": part, "prompt": _prompt(sample)}
                rows.append({**asked, "response": _response(sample), **graded, "right": float(sample[metric])})
    figures = {}
    for key, one in values.items():
        each = {place: place for place in one}
        figures[key] = figure(mean(one), each)
        if len(samples) > 1:
            label_of = {place: place.partition(":")[0] for place in one}
            by_part = grouped(one, label_of)
            figures |= {f"{key}.{label}": figure(metric, each) for label, metric in by_part.items()}
    questions = sum(len({sample["doc_id"] for sample in found}) for found in samples.values())
    return PolicyFigures(figures, ["data, prompts and grading are lm-eval's own"], {"questions": questions}), rows


def _table(name: str, found: Mapping[str, Any]) -> str:
    details = found["details"]
    line = f"{details['questions']:,} questions"
    if "without_answer" in details:
        line += f"; {details['without_answer']:,} responses without an answer"
    return markdown(name, dict(found), [f"{line}."])
