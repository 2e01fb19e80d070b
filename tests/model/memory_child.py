"""A real training in a process of its own: prints its peak of resident memory over what was there before, in bytes."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import tiny
import transformers

from reward_distiller.config import Training
from reward_distiller.model.batches import encode_pairs
from reward_distiller.model.loading import build_network
from reward_distiller.model.memory import Shape, training_memory
from reward_distiller.model.objectives import Objective, margin_regression
from reward_distiller.model.trainer import Trainer
from reward_distiller.records import Pair, Prompt


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def pairs(count: int, length: int) -> list[Pair]:
    """Texts that share nothing, so that slots are as many as tokens."""
    rng = random.Random(0)

    def text() -> str:
        return "".join(rng.choice("abcdefghijklmnop ") for _ in range(length))

    scores = {"chosen_score": 9.0, "rejected_score": 2.0}
    return [
        Pair.of(Prompt.from_text(f"q{n}"), text(), text(), "sampled", teacher_response=text(), **scores)
        for n in range(count)
    ]


def main() -> None:
    given = json.loads(sys.argv[1])
    chat = tiny.chat()
    config = getattr(transformers, f"{given['architecture']}Config")(
        vocab_size=given.get("vocabulary", len(chat.tokenizer) + 1),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **given["config"],
    )
    settings = Training(pairs_per_step=16, epochs=2, max_length=1024, threads=1, device="cpu", **given["training"])
    encoded, _ = encode_pairs(pairs(8, 340), chat, settings.max_length, tiny.FULL_READING)
    objective = Objective(margin_regression, pair_weight=0.8, nll_weight=0.2)

    def train(network):  # type: ignore[no-untyped-def]
        list(Trainer(network, objective, settings).train(encoded, 0))

    train(build_network(tiny.tiny_lm(len(chat.tokenizer) + 1), chat, 0))  # what the libraries take once
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    lm = getattr(transformers, f"{given['architecture']}ForCausalLM")(config)
    train(build_network(lm, chat, 0))
    estimate = training_memory(Shape.of(config), settings)
    print(json.dumps({"peak": resident("VmHWM") - before, "estimate": estimate.total, "parts": vars(estimate)}))


if __name__ == "__main__":
    main()
