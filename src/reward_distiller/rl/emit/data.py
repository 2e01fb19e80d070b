"""The prompts or demonstrations of an emitted config as the engines read them.

launch.sh runs it, where the data is: at emission there may be no network. Rows that are empty or there twice are
dropped and counted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reward_distiller.balance import Balance
from reward_distiller.config import RLConfig, load_rl_config
from reward_distiller.console import say
from reward_distiller.errors import ConfigError, RewardDistillerError
from reward_distiller.files import new_folder, write_rows
from reward_distiller.records import Prompt
from reward_distiller.rows import Fields, rows_of


def write_data(engine: str, config: RLConfig, folder: Path) -> Path:
    """FOLDER/train.parquet for verl, FOLDER/train.jsonl for OpenRLHF."""
    sft = config.algorithm == "sft"
    make = {"verl": _verl_sft if sft else _verl, "openrlhf": _openrlhf_sft if sft else _openrlhf}
    if engine not in make:
        raise ConfigError(f"{engine}: no such engine. Use verl or openrlhf")
    name = "train.parquet" if engine == "verl" else "train.jsonl"
    with new_folder(folder) as temporary:
        rows = [make[engine](at, *each) for at, each in enumerate(_read(config, sft))]
        if not rows:
            raise ConfigError("no row is left to train on. The lines above say what became of each")
        write_rows(temporary / name, rows)
    return folder / name


def _read(config: RLConfig, sft: bool) -> Iterator[tuple[Prompt, str, dict[str, Any]]]:
    seen: set[str] = set()
    sources = [config.demonstrations] if sft and config.demonstrations else config.prompts
    for source in sources:
        where, rows = rows_of(source, seed=config.seed)
        balance = Balance(f"load {where}", "rows", 0)
        for number, row in rows:
            balance.total += 1
            fields = Fields(where, number, row, source.columns)
            prompt, response = fields.prompt(), fields.response("response") if sft else ""
            if not prompt.messages[-1].content.strip() or (sft and not response.strip()):
                balance.lose("dropped", "empty", f"row {number}")
            elif prompt.id in seen:
                balance.lose("dropped", "duplicate prompt", f"row {number}")
            else:
                seen.add(prompt.id)
                balance.keep()
                yield prompt, response, row
        say(balance.check().line())


def _verl(at: int, prompt: Prompt, _: str, row: dict[str, Any]) -> dict[str, Any]:
    info = {"index": at, "prompt": prompt.as_dicts(), "row": json.dumps(row, ensure_ascii=False, default=str)}
    return {
        "data_source": "reward-distiller",
        "prompt": prompt.as_dicts(),
        "ability": "chat",
        "reward_model": {"style": "model", "ground_truth": ""},
        "extra_info": info,
    }


def _verl_sft(at: int, prompt: Prompt, response: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [*prompt.as_dicts(), {"role": "assistant", "content": response}]}


def _openrlhf(at: int, prompt: Prompt, _: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": prompt.as_dicts()}


def _openrlhf_sft(at: int, prompt: Prompt, response: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": prompt.as_dicts(), "response": [{"role": "assistant", "content": response}]}


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        say("write: python3 -m reward_distiller.rl.emit.data verl|openrlhf CONFIG FOLDER")
        return 2
    engine, config, folder = arguments
    try:
        say(str(write_data(engine, load_rl_config(config), Path(folder))))
    except RewardDistillerError as error:
        say(f"error: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
