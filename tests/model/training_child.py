"""A training as a process of its own, alone or one of several: `python training_child.py FOLDER [key=value ...]`.

Writes FOLDER/rewards.json and, step by step, FOLDER/training.jsonl. The tests kill it, resume it and compare.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "2000")
sys.path.insert(0, str(Path(__file__).parents[1]))  # a script's path begins with its own folder

import tiny
import yaml

from reward_distiller.config import Training
from reward_distiller.model.batches import encode_pairs
from reward_distiller.model.checkpoints import Checkpoints
from reward_distiller.model.loading import build_network
from reward_distiller.model.objectives import Objective, margin_regression
from reward_distiller.model.teachers import ReferenceLM
from reward_distiller.model.trainer import Trainer
from reward_distiller.model.training_log import open_log
from reward_distiller.processes import is_main


def main() -> None:
    folder, *rest = sys.argv[1:]
    options = dict(pair.split("=", 1) for pair in rest)
    settings = {"device": "cpu", "threads": 1, "pairs_per_step": 8, "epochs": 3, "learning_rate": 3e-3}
    if options.pop("fsdp", None):
        shard_on_cpus()
    training = Training(**settings | {key: yaml.safe_load(value) for key, value in options.items()})
    chat = tiny.chat(pad_token="<pad>")
    network = build_network(tiny.tiny_lm(len(chat.tokenizer), "Qwen2"), chat, 0)
    reference = ReferenceLM(tiny.tiny_lm(len(chat.tokenizer), seed=1).eval())
    encoded, _ = encode_pairs(tiny.pairs(16), chat, 500, tiny.FULL_READING)
    objective = Objective(margin_regression, pair_weight=0.6, nll_weight=0.25, kl_weight=0.15)
    trainer = Trainer(network, objective, training, reference)
    checkpoints = Checkpoints(Path(folder) / "checkpoints", "key", is_main())
    with open_log(Path(folder) / "training.jsonl", training.log_to, "test", {}) as log:
        for _ in trainer.train(encoded[4:], 0, encoded[:4], checkpoints, log):
            pass
    state = trainer.gathered()
    trainer.end()
    if not is_main():
        return
    if state is not None:
        network = build_network(tiny.tiny_lm(len(chat.tokenizer), "Qwen2"), chat, 0)
        network.load_state_dict(state)
    weights = {name: value.double().sum().item() for name, value in network.state_dict().items()}
    rewards = rewards_of(network, encoded)
    (Path(folder) / "rewards.json").write_text(json.dumps({"rewards": rewards, "weights": weights}))


def shard_on_cpus() -> None:
    """FSDP2 through `accelerate`, which turns to it by itself on GPUs only; the sharding and gathering are the same."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
    from accelerate.utils import DistributedType

    state = Accelerator(cpu=True).state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    state.distributed_type = PartialState().distributed_type = DistributedType.FSDP


def rewards_of(network, encoded) -> list[float]:
    from reward_distiller.model.chat import ChatFormat
    from reward_distiller.model.reward_model import RewardModel

    model = RewardModel(network.classifier, ChatFormat(tiny.byte_tokenizer(), "tiny"))
    return model.score_encoded([s for pair in encoded for s in (pair.chosen, pair.rejected)])


if __name__ == "__main__":
    main()
