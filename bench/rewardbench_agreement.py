"""Allen AI's own `rewardbench` package and ours, on one reward model and the same rows: every reward, every section.

Theirs runs unchanged in an environment of its own (bench/rewardbench-requirements.txt), which knows nothing of our
package: it finds the rows where it looks for its data set, in a folder `allenai/reward-bench`, and the tokenizer's own
chat template renders them.

    python -m bench.rewardbench_agreement MODEL ROWS --programs .venv-rewardbench/bin
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from reward_distiller.evaluate.answers import Rewards
from reward_distiller.evaluate.benchmarks import benchmark_named
from reward_distiller.files import read_rows, write_rows
from reward_distiller.recipes.answering import answers_of, load_all
from reward_distiller.recipes.evaluation import figures
from reward_distiller.recipes.judges import JudgeSettings
from reward_distiller.recipes.scorers import ModelScorer, ScorerSettings

CARD = """---
configs:
- config_name: default
  data_files:
  - split: filtered
    path: filtered.jsonl
---
"""
SECTIONS = """
import json, sys
from rewardbench.constants import EXAMPLE_COUNTS, SUBSET_MAPPING
from rewardbench.utils import calculate_scores_per_section
print(json.dumps(calculate_scores_per_section(EXAMPLE_COUNTS, SUBSET_MAPPING, json.load(sys.stdin))))
"""


def theirs(
    programs: Path, model: Path, rows: list[dict[str, Any]]
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """Their rewards by row id, and their accuracies by subset and by section."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "allenai" / "reward-bench"
        data.mkdir(parents=True)
        (data / "README.md").write_text(CARD)
        write_rows(data / "filtered.jsonl", rows)
        (folder / "model").symlink_to(model.resolve(), target_is_directory=True)
        asked = ["--model=model", "--not_quantized", "--torch_dtype=float32", "--batch_size=4", "--output_dir=out/"]
        _run(folder, str(programs / "rewardbench"), *asked, "--max_length=100000")
        rewards = {
            row["id"]: (row["scores_chosen"], row["scores_rejected"])
            for _, row in read_rows(folder / "out" / "model_outputs.jsonl")
        }
        subsets = json.loads((folder / "out" / "model.json").read_text())["extra_results"]
        sections = json.loads(_run(folder, str(programs / "python"), "-c", SECTIONS, given=json.dumps(subsets)))
    return rewards, {**{f"subset.{name}": value for name, value in subsets.items()}, **sections}


def _run(folder: Path, *command: str, given: str = "") -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--programs", type=Path, required=True, help="bin folder of the environment with rewardbench")
    options = parser.parse_args()
    rows = [row for _, row in read_rows(options.rows)]
    rewards, accuracies = theirs(options.programs.resolve(), options.model, rows)
    (loaded,) = load_all([(benchmark_named("rewardbench"), str(options.rows))])
    with tempfile.TemporaryDirectory() as name:
        scorer = ModelScorer(str(options.model), ScorerSettings(Path(name) / "ledger.sqlite", JudgeSettings()))
        answers = answers_of(scorer, loaded.examples, Path(name) / "answers.jsonl")
    apart = []
    for example, answer in zip(loaded.examples, answers, strict=True):
        assert isinstance(answer, Rewards)
        apart += [abs(ours - other) for ours, other in zip(answer.values, rewards[example.id], strict=True)]
    metrics = figures(loaded, answers, None)["metrics"]
    print(f"{len(answers)} examples, {len(apart)} rewards: the largest difference is {max(apart):.2e}")
    for name, accuracy in accuracies.items():
        ours = metrics[name]["value"] if name in metrics else float("nan")
        print(f"{name:<34}{100 * accuracy:10.3f}{ours:10.3f}")


if __name__ == "__main__":
    main()
