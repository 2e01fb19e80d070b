"""Optional packages: which extras are installed, and which of them a config needs. Imports none of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator

from reward_distiller.config import AnyRun, Config, DataSource, RLConfig
from reward_distiller.recipes.doctor.findings import Finding, ok, problem
from reward_distiller.recipes.doctor.runs import sections

EXTRAS: dict[str, tuple[str, ...]] = {
    "hub": ("datasets",),
    "lm-eval": ("lm_eval",),
    "lora": ("peft",),
    "plot": ("matplotlib",),
    "qlora": ("peft", "bitsandbytes"),
    "ray": ("ray",),
    "rl": ("trl", "datasets"),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}


def check_extras(runs: Iterable[AnyRun]) -> Iterator[Finding]:
    """A line for each extra that the runs need, and one for all the others."""
    needed: dict[str, str] = {}
    for run in runs:
        for extra, why in _needed(run):
            needed.setdefault(extra, why)
    for extra, why in sorted(needed.items()):
        if missing := missing_packages(extra):
            yield problem(
                f"extra {extra}",
                f"{why} needs {', '.join(missing)}, not installed",
                f"pip install 'reward-distiller[{extra}]'",
            )
        else:
            yield ok(f"extra {extra}", f"installed; {why} needs it")
    others = sorted(set(EXTRAS) - set(needed))
    there = [extra for extra in others if not missing_packages(extra)]
    absent = [extra for extra in others if extra not in there]
    yield ok("other extras", f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}")


def missing_packages(extra: str) -> list[str]:
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def _needed(run: AnyRun) -> Iterator[tuple[str, str]]:
    """The extras that a run needs, each with the place of the config that does."""
    for place, source in sections(run, DataSource):
        if source.hub is not None:
            yield "hub", f"{place}.hub"
    if isinstance(run, Config):
        for name, path in run.evaluation.benchmarks.items():
            if path is None:
                yield "hub", f"evaluation.benchmarks.{name}"
        if run.student.lora is not None:
            yield ("qlora" if run.student.lora.quantize else "lora"), "student.lora"
        yield from ((tracker, "training.log_to") for tracker in run.training.log_to)
    if isinstance(run, RLConfig):
        if run.algorithm != "ppo":
            yield "rl", f"algorithm {run.algorithm}"
        yield from ((tracker, "optimization.log_to") for tracker in run.optimization.log_to)
