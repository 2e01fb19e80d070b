"""The bench: every comparison in one run, sides taking turns block by block; a table, and build/bench.json.

python -m bench [--rows PATTERN] [--quick] [--output build/bench.json] [--device cpu|cuda] [--bf16]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import ours
from bench.machine import facts, matmul_peak
from bench.report import Timed, make_row, table
from bench.sets import Items, cut, scoring_items, training_items
from bench.settings import COMPARISONS, ROOT, Comparison, Settings
from bench.turns import Side

TRL_PYTHON = ROOT / ".venv-trl/bin/python"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Trees against padded rows and TRL.")
    parser.add_argument("--rows", default="*", help="only rows whose name holds this, or matches it (* and ?)")
    parser.add_argument("--quick", action="store_true", help="a tiny model and one repeat: does it run? No figures")
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench.json")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="bf16 autocast on every side; the peak in bf16 too")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def start(side: str, folder: Path, comparison: Comparison, logs: Path) -> Side:
    if side == "trl":
        command = [str(TRL_PYTHON), "-m", "bench.trl_worker", str(folder), str(comparison.per_block)]
        command.append(comparison.trl_sampling)
    else:
        command = [sys.executable, "-m", "bench.ours_worker", str(folder), side, comparison.work]
    return Side(side, command, logs / f"{comparison.name.replace('/', '-')}-{side}.log", ROOT)


def agree_with_trl(side: Side, items: Items, comparison: Comparison) -> None:
    """Only pairs that survive on both sides are left, in the order that TRL's sampler draws."""
    lengths = side.ready()["lengths"]
    both = [identity for identity in items.pairs if identity in lengths]
    for identity in both:
        pair = items.pairs[identity]
        if lengths[identity] != [len(pair.chosen), len(pair.rejected)]:
            raise ValueError(f"pair {identity}: {lengths[identity]} tokens in TRL, not {pair.chosen, pair.rejected}")
    items.left_out["kept by TRL, dropped by us"] = len(set(lengths) - set(both))
    items.left_out["kept by us, dropped by TRL"] = len(items.pairs) - len(both)
    answer = side.ask(do="keep", ids=both)
    items.blocks = cut(answer["order"], comparison)
    say(f"  TRL: {len(both)} pairs survive on both sides, {answer['pairs_per_batch']} a micro-batch")


def take_turns(sides: dict[str, Side], items: Items) -> Timed:
    """Every block on every side; who begins changes from block to block. The first block is not counted."""
    timed: Timed = {name: [] for name in sides}
    for number, block in enumerate(items.blocks):
        names = list(sides)
        cycle, first = divmod(number, len(names))
        order = names[first:] + names[:first]
        for name in order[::-1] if cycle % 2 else order:  # A B, B A, B A, A B
            answer = sides[name].ask(do="block", ids=block)
            if number:
                timed[name].append(answer)
        shown = ", ".join(f"{name} {timed[name][-1]['seconds']:.2f} s" for name in names if number)
        say(f"  block {number} of {len(items.blocks) - 1}: {shown or 'warm-up'}")
    return timed


def peak_now(settings: Settings) -> float:
    return matmul_peak(settings.device, settings.bf16, settings.threads, settings.peak_tries)


def compare(comparison: Comparison, settings: Settings, checkpoint: Path, logs: Path) -> list[dict[str, Any]]:
    """The rows of one comparison."""
    say(f"{comparison.name}: {comparison.repeats} blocks of {comparison.per_block}")
    chat = ours.chat_format(settings)
    shape = ours.shape_of(ours.make_network(settings, chat))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings.write(folder / "settings.json")
        (folder / "model").symlink_to(checkpoint)
        if comparison.trains:
            items = training_items(comparison, settings, chat, folder)
        else:
            items = scoring_items(comparison, settings, chat)
        say(f"  {len(items.rows or items.pairs)} items; left out: {dict(+items.left_out)}")
        sides: dict[str, Side] = {}
        try:
            if "trl" in comparison.against:
                sides["trl"] = start("trl", folder, comparison, logs)
                agree_with_trl(sides["trl"], items, comparison)
            items.write(folder)
            own = [side for side in ("tree", *comparison.against) if side != "trl"]
            sides |= {side: start(side, folder, comparison, logs) for side in own}
            for side in own:
                sides[side].ready()
            peaks = [peak_now(settings)]
            timed = take_turns(sides, items)
            peaks.append(peak_now(settings))
            memory = {side: process.end()["peak_memory_mb"] for side, process in sides.items()}
        finally:
            for process in sides.values():
                process.kill()
    rows = []
    for row_name, other in comparison.rows().items():
        row = make_row(row_name, comparison, other, items, timed, memory, shape, max(peaks))
        rows.append({**row, "matmul_gflops": [peak / 1e9 for peak in peaks]})
    return rows


def main() -> int:
    given = arguments()
    data = Path(os.environ.get("REWARD_DISTILLER_DATA", ROOT / "../shared/data")).resolve()
    settings = Settings(str(data), device=given.device, bf16=given.bf16, threads=given.threads)
    chosen = [part for comparison in COMPARISONS if (part := comparison.matching(given.rows))]
    if given.quick:
        settings = replace(settings, hidden=64, layers=2, heads=4, peak_tries=1)
        chosen = [replace(c, repeats=2, per_block=min(c.per_block, 4)) for c in chosen]
    if not chosen:
        say(f"no row matches {given.rows!r}. There are: {', '.join(row for c in COMPARISONS for row in c.rows())}")
        return 2
    if not (data / "qwen_tokenizer").is_dir():
        say(f"{data} holds no data. Set REWARD_DISTILLER_DATA to the data folder")
        return 2
    if any("trl" in c.against for c in chosen) and not TRL_PYTHON.exists():
        say(f"{TRL_PYTHON} is not here. Make it with `make bench`, or leave TRL out with --rows")
        return 2
    given.output.parent.mkdir(parents=True, exist_ok=True)
    logs = given.output.parent / "bench-logs"
    logs.mkdir(exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        checkpoint = Path(name) / "model"
        chat = ours.chat_format(settings)
        ours.export(ours.make_network(settings, chat), chat, checkpoint)
        rows = [row for comparison in chosen for row in compare(comparison, settings, checkpoint, logs)]
    machine = {**facts(settings.device), "transformers": version("transformers")}
    machine["matmul_gflops"] = max(peak for row in rows for peak in row["matmul_gflops"])
    facts_of_run = {**asdict(settings), "data": "$REWARD_DISTILLER_DATA", "quick": given.quick}
    result = {"machine": machine, "settings": facts_of_run, "rows": rows}
    given.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    say(f"{given.output}: {len(rows)} rows in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0
