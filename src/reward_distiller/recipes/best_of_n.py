"""Recipe `best_of_n`: what the reward of an RL config picks out of N responses of its policy, over N.

A cheap look at a reward before any training, and at how far it can be leant on: where the reward's pick gets better in
the reward's eyes and worse in truth, it is being hacked. Writes best_of_n.json, best_of_n.md and, with the extra
`plot`, best_of_n.svg.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from reward_distiller.config import RLConfig
from reward_distiller.console import track
from reward_distiller.errors import ConfigError, MissingExtra
from reward_distiller.evaluate.best_of_n import best_of, kl_of_best_of
from reward_distiller.evaluate.plots import plot_curves
from reward_distiller.evaluate.statistics import mean_figure
from reward_distiller.files import write_json, write_text
from reward_distiller.model.trainer import exact
from reward_distiller.recipes.made import make
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policy import OpenedRun, check_policy_run
from reward_distiller.recipes.run_folder import run_folder
from reward_distiller.recipes.store import store_of
from reward_distiller.rl.training import samples_of, seed_of

PROMPTS_AT_ONCE = 32
TITLES = {"quality": "true quality, percent", "reward": "reward", "tokens": "tokens"}


def best_of_n(config: RLConfig, parts: Parts, samples: int) -> dict[str, Any]:
    """Sample `samples` responses to each evaluation prompt from the policy that the config starts from, and pick.

    Raises ConfigError for a config without rewards or evaluation prompts.
    """
    if not config.rewards or config.evaluation.prompts is None:
        raise ConfigError("best-of-n needs `rewards` and `evaluation.prompts`")
    if samples < 2:
        raise ConfigError(f"best of {samples}: sample 2 or more")
    check_policy_run(config, parts)
    with run_folder(config) as folder, ExitStack() as stack:
        make(config, store_of(config))
        with exact(config.optimization.threads):
            results = _picked(OpenedRun(config, parts, store_of(config), stack), samples)
        write_json(folder / "best_of_n.json", results)
        write_text(folder / "best_of_n.md", table(results))
        _draw(folder / "best_of_n.svg", results)
        return results


def _picked(opened: OpenedRun, samples: int) -> dict[str, Any]:
    tests, policy = opened.data.tests, opened.policy
    assert opened.reward is not None
    torch.manual_seed(seed_of("best of n", opened.config.seed))
    of_prompt: list[dict[str, list[float]]] = []
    with track("best of n", len(tests)) as advance:
        for start in range(0, len(tests), PROMPTS_AT_ONCE):
            tasks = [task for task in tests[start : start + PROMPTS_AT_ONCE] for _ in range(samples)]
            sampled = policy.sample([task.opening for task in tasks])
            scored = opened.reward(samples_of(tasks, sampled))
            for at in range(0, len(tasks), samples):
                own = slice(at, at + samples)
                found = {"reward": scored.total[own], "tokens": [float(len(s.ids)) for s in sampled[own]]}
                if opened.quality is not None:
                    asked = tasks[at].prompt.messages[-1].content
                    found["quality"] = [100 * opened.quality(asked, s.text) for s in sampled[own]]
                of_prompt.append(found)
                advance()
    counts = [2**power for power in range(samples.bit_length())]

    def figure(n: int, name: str) -> dict[str, float]:
        return mean_figure([best_of(n, each["reward"], each[name]) for each in of_prompt]).as_dict()

    figures = {name: {str(n): figure(n, name) for n in counts} for name in TITLES if name in of_prompt[0]}
    return {"samples": samples, "prompts": len(of_prompt), "kl": {str(n): kl_of_best_of(n) for n in counts}, **figures}


def table(results: dict[str, Any]) -> str:
    names = [name for name in TITLES if name in results]
    heads = ["N", "KL at most", *(TITLES[name] for name in names)]
    lines = [f"| {' | '.join(heads)} |", "|---:" * len(heads) + "|"]
    for n, kl in results["kl"].items():
        cells = (results[name][n] for name in names)
        shown = " | ".join(f"{c['value']:.2f} [{c['low']:.2f}, {c['high']:.2f}]" for c in cells)
        lines.append(f"| {n} | {kl:.2f} | {shown} |")
    note = f"{results['samples']} samples of each of {results['prompts']} prompts; 95% intervals over prompts."
    return "\n".join([*lines, "", note, ""])


def _draw(path: Path, results: dict[str, Any]) -> None:
    panels = {
        title: {"picked by the reward": [(results["kl"][n], results[name][n]["value"]) for n in results["kl"]]}
        for name, title in TITLES.items()
        if name in results
    }
    try:
        plot_curves(path, panels, "KL to the policy, nats")
    except MissingExtra:
        return  # the table says the same
