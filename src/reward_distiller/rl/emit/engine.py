"""What all engines have in common: what none of them can honour, and launch scripts whose every value is quoted."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reward_distiller.config import RLConfig
from reward_distiller.errors import ConfigError
from reward_distiller.rewards.client import URL


@dataclass(frozen=True)
class Emitted:
    """File name -> text."""

    files: dict[str, str]


def check_for_engines(config: RLConfig, engine: str) -> None:
    """Raise ConfigError for what exists on this machine only."""
    sources = [config.demonstrations] if config.algorithm == "sft" else config.prompts
    if config.policy.model == "testbed" or any(source is not None and source.testbed for source in sources):
        raise ConfigError(f"--emit {engine}: the testbed is on this machine only. Name a policy and prompts")
    if config.policy.chat_template:
        raise ConfigError(f"--emit {engine}: put policy.chat_template into the policy's folder; engines read it there")
    for name, term in config.rewards.items():
        if term.center != "none" or term.scale != "none":
            mend = f"Take out rewards.{name}.center and scale, and set its weight"
            raise ConfigError(f"--emit {engine}: engines score responses one by one, and know no batch. {mend}")
        if term.labels is not None or term.truth:
            raise ConfigError(
                f"--emit {engine}: rewards.{name} is known on this machine only. Train a reward model on it"
            )
        if term.ensemble is not None:
            raise ConfigError(f"--emit {engine}: rewards.{name} is an ensemble. Serve its members as terms")


def absolute(model: str) -> str:
    """A folder as the launch script can name it, which runs beside itself; a Hub id, of at most one slash, as it is."""
    return str(Path(model).absolute()) if model.count("/") != 1 or Path(model).is_dir() else model


def served(config: RLConfig) -> list[str]:
    """The terms whose reward model is to be served: those that name a folder or Hub id."""
    return [name for name, term in config.rewards.items() if term.model]


def url_variable(config: RLConfig, name: str) -> str:
    """The environment variable with a term's server: one for the only one, else each its own."""
    return URL if len(served(config)) == 1 else f"{URL}_{name.upper()}"


def script(config: RLConfig, kind: str, command: Sequence[str], options: Sequence[str]) -> str:
    """launch.sh: data first where it is missing, the servers that must be there, then the engine with its options."""
    lines = [
        "#!/usr/bin/env bash",
        f"# {config.algorithm} on {config.cluster.nodes} nodes of {config.cluster.gpus_per_node} GPUs.",
        "# Start Ray on all nodes before (ray start --head; ray start --address HEAD:6379), and each reward model",
        "# on a machine that all of them reach:",
        *(f"#   reward-distiller serve {shlex.quote(absolute(config.rewards[n].model or ''))}" for n in served(config)),
        "set -euo pipefail",
        'here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"',
        *(
            f': "${{{url_variable(config, n)}:?set it to http://HOST:PORT of the server of {n}}}"'
            for n in served(config)
        ),
        f'[ -e "$here/data" ] || python3 -m reward_distiller.rl.emit.data {kind} "$here/rl.yaml" "$here/data"',
        'cd "$here"',
        "options=(",
        *(f"  {shlex.quote(option)}" for option in options),
        ")",
        shlex.join(command) + ' "${options[@]}" "$@"',
    ]
    return "\n".join(lines) + "\n"
