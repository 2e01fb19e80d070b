"""Our side as a process that computes when it is its turn.

python -m bench.ours_worker FOLDER SIDE WORK
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import ours
from bench.machine import Slots, peak_memory_mb
from bench.settings import Settings
from bench.turns import Turns
from reward_distiller.records import Pair, Prompt


def main(folder: Path, side: str, work: str) -> None:
    turns = Turns()
    settings = Settings.read(folder / "settings.json")
    torch.set_num_threads(settings.threads)
    chat = ours.chat_format(settings)
    network = ours.make_network(settings, chat)
    lines = (folder / "items.jsonl").read_text("utf-8").split("\n")[:-1]  # U+2028 ends no line here
    items: dict[str, Any]
    runner: Any
    if work == "scoring":
        rows = [json.loads(line) for line in lines]
        prompts = {row["id"]: Prompt.model_validate(row["prompt"]) for row in rows}
        items = {row["id"]: ours.encode_row(prompts[row["id"]], row["responses"], chat) for row in rows}
        runner = ours.ScoringSide(settings, network, chat, side)
    elif work == "evaluation":
        items = {row["id"]: ours.example(row) for row in map(json.loads, lines)}
        runner = ours.EvaluationSide(settings, network, chat, side)
    else:
        pairs, _ = ours.encode([Pair.model_validate_json(line) for line in lines], chat, settings, work)
        items = {pair.id: pair for pair in pairs}
        runner = ours.TrainingSide(settings, network, side, work)
    slots = Slots(network.classifier.base_model)
    turns.say(items=len(items))
    while (request := turns.next())["do"] != "end":
        block = runner.plan([items[identity] for identity in request["ids"]])
        turns.say(**slots.measure(partial(runner.step, block), settings.device))
    turns.say(peak_memory_mb=peak_memory_mb(settings.device))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
