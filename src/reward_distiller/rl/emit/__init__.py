"""`rl CONFIG --emit verl|openrlhf`: what a distributed engine needs to do the same training on many GPUs.

A folder with launch.sh (the engine's own command and its options), rl.yaml (the config, for the data) and reward.py.
Nothing is trained here, and what an engine has no place for is refused by name, never left out in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reward_distiller.config import RLConfig, dump_yaml
from reward_distiller.errors import ConfigError
from reward_distiller.files import new_folder, write_text
from reward_distiller.rl.emit import openrlhf, verl
from reward_distiller.rl.emit.engine import Emitted, absolute, check_for_engines

ENGINES: dict[str, Callable[[RLConfig, str], Emitted]] = {"verl": verl.emitted, "openrlhf": openrlhf.emitted}


def emit(config: RLConfig, policy: str, engine: str, folder: str | Path) -> list[Path]:
    """Write the folder and give its files. `policy` is the path or Hub id of the policy that the config starts from.

    Raises ConfigError for another engine, and for what the engine cannot honour.
    """
    if engine not in ENGINES:
        raise ConfigError(f"--emit {engine}: there is no such engine. Use one of {', '.join(ENGINES)}")
    check_for_engines(config, engine)
    files = {**ENGINES[engine](config, absolute(policy)).files, "rl.yaml": dump_yaml(config)}
    with new_folder(folder) as temporary:
        for name, text in files.items():
            write_text(temporary / name, text)
    return [Path(folder) / name for name in files]
