"""Allen AI's own `rewardbench` package and ours, on one reward model and the same rows: every reward, every section.

Theirs stands in an environment of its own and knows nothing of our package:

    python3 -m venv /tmp/rbenv
    /tmp/rbenv/bin/pip install -r bench/rewardbench-requirements.txt
    python -m bench.rewardbench_agreement ROWS --programs /tmp/rbenv/bin --work /tmp/rb_agreement

ROWS is a file of RewardBench's rows. Without --model, WORK/model is made on the spot: a small random Qwen2 with Qwen's
tokenizer and chat template. The package's files are unchanged. Three things are put in its way, all said here: its data
set is a local folder `allenai/reward-bench`; it reads a copy of the checkpoint whose two JSON files carry the names of
transformers 4.51 (`in_old_names`); and where there is no GPU, its `.to("cuda")` means the CPU (`LAUNCH`).
Rows longer than the model reads are named and left out on both sides. It ends with 1 where the sides differ.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.ours import chat_format, export, make_network
from bench.settings import ROOT, Settings
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.evaluate.benchmarks.rewardbench import SECTIONS
from reward_distiller.files import read_rows, write_rows
from reward_distiller.recipes.answering import load_all

TOLERANCE = 1e-4  # of a reward
ROUNDED = 6e-6  # of an accuracy: results.json holds percent with three places; one pair more is a hundred times that
CARD = """---
configs:
- config_name: default
  data_files:
  - split: filtered
    path: filtered.jsonl
---
"""
LAUNCH = """
import torch, transformers
if not torch.cuda.is_available():
    to = transformers.BatchEncoding.to
    transformers.BatchEncoding.to = lambda inputs, device: to(inputs, "cpu" if device == "cuda" else device)
from rewardbench.rewardbench import main
main()
"""
SCORES = """
import json, sys
from rewardbench.constants import EXAMPLE_COUNTS, SUBSET_MAPPING
from rewardbench.utils import calculate_scores_per_section
sections = calculate_scores_per_section(EXAMPLE_COUNTS, SUBSET_MAPPING, json.load(sys.stdin))
weights = {name: {subset: EXAMPLE_COUNTS[subset] for subset in subsets} for name, subsets in SUBSET_MAPPING.items()}
print(json.dumps([sections, weights]))
"""
Key = tuple[str, str, str, str]  # subset, prompt, chosen, rejected


@dataclass(frozen=True)
class Side:
    """What one package says: a pair of rewards a row, and accuracies from 0 to 1."""

    rewards: dict[Key, tuple[float, float]]
    subsets: dict[str, float]
    sections: dict[str, float]  # by our names


def make_model(folder: Path) -> None:
    """Weights large enough that rewards differ, and Qwen2.5's RoPE base, which is not the default of Qwen2."""
    data = Path(os.environ.get("REWARD_DISTILLER_DATA", ROOT / "../shared/data")).resolve()
    settings = Settings(str(data), hidden=128, layers=4, heads=4)
    chat = chat_format(settings)
    network = make_network(settings, chat)
    with torch.no_grad():
        for weights in network.classifier.base_model.parameters():
            if weights.dim() == 2:
                weights.mul_(4)
    network.classifier.config.rope_parameters["rope_theta"] = 1_000_000.0
    export(network, chat, folder)


def in_old_names(model: Path, folder: Path) -> None:
    """The same checkpoint as transformers 4.51 expects to find it: two JSON files differ, the rest are links."""
    folder.mkdir()
    for file in model.resolve().iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    rope = config.pop("rope_parameters", None) or {}
    if "rope_theta" in rope:  # 4.51 passes over rope_parameters in silence and takes its own default
        config["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        config["rope_scaling"] = rope
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    tokenizer = json.loads((model / "tokenizer_config.json").read_text())
    if isinstance(tokenizer.get("extra_special_tokens"), list):  # an object there in 4.51, which breaks off
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(content, indent=2))


def ours(model: Path, rows: Path, folder: Path) -> tuple[Side, list[Key]]:
    """What `reward-distiller evaluate` says, and the rows to which it gave no answer."""
    evaluate = (Path(sys.executable).with_name("reward-distiller"), "evaluate", model, "--device=cpu")
    run(ROOT, folder, *evaluate, f"--benchmark=rewardbench={rows}", f"--output={folder}")
    (loaded,) = load_all([(benchmark_named("rewardbench"), str(rows))])
    key_of = {e.id: (e.labels["subset"], e.prompt.as_dicts()[-1]["content"], *e.responses) for e in loaded.examples}
    rewards, silent = {}, []
    for _, row in read_rows(folder / "answers" / "rewardbench.jsonl"):
        if "rewards" in row:
            rewards[key_of[row["example"]]] = tuple(row["rewards"])
        else:
            silent.append(key_of[row["example"]])
            print(f"left out on both sides: {row['example']}: {row['no_answer']}")
    metrics = json.loads((folder / "results.json").read_text())["benchmarks"]["rewardbench"]["metrics"]
    values = {name: metric["value"] / 100 for name, metric in metrics.items()}
    subsets = {name.removeprefix("subset."): value for name, value in values.items() if name.startswith("subset.")}
    return Side(rewards, subsets, {name: values[name] for name in SECTIONS if name in values}), silent


def theirs(
    programs: Path, model: Path, rows: Iterable[dict[str, Any]], folder: Path
) -> tuple[Side, dict[str, dict[str, int]]]:
    """What the `rewardbench` command says, and the weights of its sections."""
    data = folder / "allenai" / "reward-bench"
    data.mkdir(parents=True)
    (data / "README.md").write_text(CARD)
    write_rows(data / "filtered.jsonl", rows)
    in_old_names(model, folder / "model")
    asked = ("--model=model", "--not_quantized", "--torch_dtype=float32", "--batch_size=4", "--output_dir=out/")
    run(folder, folder, programs / "python", "-c", LAUNCH, *asked)
    rewards = {
        key(row): (_number(row["scores_chosen"]), _number(row["scores_rejected"]))
        for _, row in read_rows(folder / "out" / "model_outputs.jsonl")
    }
    subsets = json.loads((folder / "out" / "model.json").read_text())["extra_results"]
    said = run(folder, folder, programs / "python", "-c", SCORES, given=json.dumps(subsets))
    sections, weights = ({_our_name(k): v for k, v in part.items()} for part in json.loads(said.splitlines()[-1]))
    return Side(rewards, subsets, sections), weights


def key(row: dict[str, Any]) -> Key:
    """By its texts: ids come back with other texts in RewardBench. Their own output holds a rendered prompt."""
    return row["subset"], row.get("question", row["prompt"]), row["chosen"], row["rejected"]


def _number(value: float | list[float]) -> float:
    return value[0] if isinstance(value, list) else value


def _our_name(section: str) -> str:
    return section.lower().replace(" ", "_")


def run(here: Path, log: Path, *command: str | Path, given: str = "") -> str:
    """Standard output. What it says beside that goes into `log`/run.log."""
    quiet = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "HF_HOME": str(log / "hf")}
    environment = {"GOMP_SPINCOUNT": "2000", **os.environ, **quiet}  # as in `__main__`
    log.mkdir(parents=True, exist_ok=True)
    with open(log / "run.log", "a") as errors:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=here,
            env=environment,
            input=given,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}: see {log / 'run.log'}")
    return done.stdout.strip()


def same(left: dict[str, float], right: dict[str, float]) -> bool:
    return left.keys() == right.keys() and all(abs(left[k] - right[k]) <= ROUNDED for k in left)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--programs", type=Path, required=True, help="bin folder of the environment with rewardbench")
    parser.add_argument("--work", type=Path, required=True, help="folder of both sides' outputs, emptied before")
    parser.add_argument("--model", type=Path, help="a reward model's folder instead of one made on the spot")
    given = parser.parse_args()
    work = given.work.resolve()
    for side in ("ours", "theirs"):
        shutil.rmtree(work / side, ignore_errors=True)
    model = (given.model or work / "model").resolve()
    if given.model is None and not model.is_dir():
        make_model(model)
    our, silent = ours(model, given.rows.resolve(), work / "ours")
    rows = [{**row, "question": row["prompt"]} for _, row in read_rows(given.rows) if key(row) not in silent]
    their, weights = theirs(given.programs.absolute(), model, rows, work / "theirs")

    if our.rewards.keys() != their.rewards.keys():
        raise SystemExit(f"{len(our.rewards.keys() ^ their.rewards.keys())} rows stand on one side only")
    apart = [abs(a - b) for k in our.rewards for a, b in zip(our.rewards[k], their.rewards[k], strict=True)]
    values = [value for pair in our.rewards.values() for value in pair]
    margins = [abs(a - b) for a, b in our.rewards.values()]
    present = {name: value for name, value in their.sections.items() if weights[name].keys() & their.subsets.keys()}
    subsets_same, sections_same = same(our.subsets, their.subsets), same(our.sections, present)
    for name in {**our.subsets, **our.sections}:
        pair = [side.sections.get(name, side.subsets.get(name, math.nan)) for side in (our, their)]
        print(f"{name:<24}ours{100 * pair[0]:9.4f}  theirs{100 * pair[1]:9.4f}")
    for name in their.sections.keys() - present.keys():
        print(f"{name:<24}no row of it: ours has no figure, theirs says {their.sections[name]}")
    for name, counts in weights.items():
        for subset in sorted(counts.keys() | SECTIONS[name].keys()):
            if counts.get(subset) != SECTIONS[name].get(subset):
                print(f"weight of {subset} in {name}: ours {SECTIONS[name].get(subset)}, theirs {counts.get(subset)}")
    print(f"rows compared: {len(our.rewards)}, left out as too long: {len(silent)}")
    print(f"rewards: {len(values)}, from {min(values):.3f} to {max(values):.3f}, std {statistics.pstdev(values):.3f}")
    print(f"smallest margin of a pair: {min(margins):.2e}; largest difference of a reward: {max(apart):.2e}")
    print(f"subset accuracies equal: {subsets_same} ({len(our.subsets)}); sections equal: {sections_same}", end=" ")
    print(f"({', '.join(our.sections)})")
    return 0 if max(apart) <= TOLERANCE and subsets_same and sections_same else 1


if __name__ == "__main__":
    raise SystemExit(main())
