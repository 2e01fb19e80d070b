"""Collaborative Reward Modeling's idea (arXiv 2505.10597) on the testbed: does a peer find wrongly labeled pairs?

    python -m bench.peer_filter [CONFIG] [--seeds 0 1 2] [--share 0.2]

CONFIG is a whole run (`recipe: data_and_rewards`) whose seeds are in its store. The prompts of its reward model's pairs
are cut into two halves, a peer is trained on each, and of every half the share of pairs with the lowest margin by the
other half's peer is left out. A reward model of what is left is compared with one of all pairs and with one of as many
pairs left out by chance. The truth, which no training reads, says how many of the pairs that were left out were wrong.
The paper's peers review each other batch by batch along a curriculum; this is one review, between two trainings.
"""

from __future__ import annotations

import argparse
import os
import random
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from reward_distiller.config import Config, DataAndRewards, load_run, parse_config
from reward_distiller.construct.pairs import read_pairs, write_pairs
from reward_distiller.evaluate.statistics import mean_interval, paired_difference
from reward_distiller.evaluate.style_matrix import style_accuracy
from reward_distiller.files import write_json
from reward_distiller.model.reward_model import RewardModel
from reward_distiller.recipes.reward_model import train_on_pairs
from reward_distiller.recipes.store import store_of
from reward_distiller.records import Pair
from reward_distiller.testbed.parts import TestbedParts

FIGURES = ("easy", "normal", "hard", "average")
TEST_PROMPTS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/testbed-data-and-rewards.yaml")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--share", type=float, default=0.2, help="of the pairs, left out")
    parser.add_argument("--output", type=Path, default=Path("runs/peer-filter"))
    given = parser.parse_args()
    found = [of_seed(given.config, seed, given.share, given.output / str(seed)) for seed in given.seeds]
    write_json(given.output / "results.json", found)
    print(table(found))


def of_seed(path: str, seed: int, share: float, folder: Path) -> dict[str, dict[str, float]]:
    """Accuracies in percent of each reward model, and of each way to leave pairs out, the part that was wrong."""
    whole = load_run(path, [f"seed={seed}"])
    assert isinstance(whole, DataAndRewards)
    run = store_of(whole).made(whole.made["reward_model_1"])
    assert isinstance(run, Config)
    parts = TestbedParts(run.testbed, seed)
    pairs = read_pairs(Path(run.output) / "pairs.jsonl", scored=True)
    halves = split(pairs, seed)
    peers = [train(run, half, folder / f"peer {at}") for at, half in enumerate(halves)]
    left_out = {"nothing": set[str](), "by chance": set[str](), "by a peer": set[str]()}
    for half, peer in zip(halves, reversed(peers), strict=True):
        count = round(share * len(half))
        left_out["by a peer"] |= set(by_margin(peer, half)[:count])
        left_out["by chance"] |= {pair.id for pair in random.Random(f"peer:{seed}").sample(half, count)}
    wrong = {pair.id for pair in pairs if not is_right(pair, parts)}
    found = {}
    for name, out in left_out.items():
        kept = [pair for pair in pairs if pair.id not in out]
        found[name] = accuracies(train(run, kept, folder / name) if out else Path(run.output), parts)
        left = len(pairs) - len(out)
        found[name] |= {"pairs": float(left), "wrong": 100 * len(wrong - out) / left}
    return found


def split(pairs: Sequence[Pair], seed: int) -> list[list[Pair]]:
    """Two halves that share no prompt."""
    prompts = list(dict.fromkeys(pair.prompt.id for pair in pairs))
    first = set(random.Random(f"halves:{seed}").sample(prompts, len(prompts) // 2))
    return [[p for p in pairs if (p.prompt.id in first) == inside] for inside in (True, False)]


def train(run: Config, pairs: Sequence[Pair], folder: Path) -> Path:
    """A run of the same settings on these pairs as they are labeled."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_name(folder.name + " pairs.jsonl")
    write_pairs(file, pairs)
    data = run.model_dump(mode="json")
    data |= {"scenario": "labeled", "responses": [], "pairs": {"path": str(file)}, "output": str(folder)}
    config = parse_config(data)
    train_on_pairs(config, TestbedParts(config.testbed, config.seed))
    return folder


def accuracies(folder: Path, parts: TestbedParts) -> dict[str, float]:
    """In percent, on pairs of which one response has one wrong item, by the styles of both."""
    model = RewardModel.from_pretrained(str(folder / "model"), device="cpu")
    found = style_accuracy(parts.style_items(TEST_PROMPTS, parts.world.tasks), model.score_rows)
    return {name: figure.value for name, figure in found.items()}


def by_margin(folder: Path, pairs: Sequence[Pair]) -> list[str]:
    """The pairs' ids, the least margin by this reward model first."""
    model = RewardModel.from_pretrained(str(folder / "model"), device="cpu")
    rewards = model.score_rows([(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs])
    margins = {pair.id: chosen - rejected for pair, (chosen, rejected) in zip(pairs, rewards, strict=True)}
    return sorted(margins, key=margins.__getitem__)


def is_right(pair: Pair, parts: TestbedParts) -> bool:
    prompt = pair.prompt.messages[-1].content
    return parts.quality(prompt, pair.chosen) > parts.quality(prompt, pair.rejected)


def table(found: Sequence[dict[str, dict[str, float]]]) -> str:
    """Means over seeds, and the difference to all pairs with its interval."""
    lines = [
        "| left out | pairs left | labeled wrongly, % | easy | normal | hard | average | difference to all pairs |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name in found[0]:
        of = {figure: [seed[name][figure] for seed in found] for figure in found[0][name]}
        means = [f"{mean_interval(of[figure]).mean:.1f}" for figure in ("wrong", *FIGURES)]
        difference = paired_difference(of["average"], [seed["nothing"]["average"] for seed in found])
        shown = f"{difference.mean:+.1f} ({difference.low:+.1f} to {difference.high:+.1f})" if name != "nothing" else ""
        lines.append(f"| {name} | {sum(of['pairs']) / len(found):,.0f} | {' | '.join(means)} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
