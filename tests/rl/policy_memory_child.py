"""A policy's real training in a process of its own: prints its peak of resident memory over what was there before."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import tiny
import transformers
from model.memory_child import resident

from reward_distiller.config import parse_run
from reward_distiller.model.memory import Shape
from reward_distiller.recipes.policy import run_policy
from reward_distiller.rl.memory import policy_memory
from reward_distiller.testbed.parts import TestbedParts


def saved(folder: Path, vocabulary: int, **config: int) -> str:
    tokenizer = tiny.byte_tokenizer(eos_token="<|im_end|>", pad_token="<|im_end|>")
    settings = {"vocab_size": max(vocabulary, len(tokenizer)), "tie_word_embeddings": False, "pad_token_id": None}
    settings |= {"bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 4096, **config}
    lm = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def settings_of(folder: Path, model: str, given: dict) -> dict:
    rows = [{"prompt": "q" * 200 + str(n), "response": "a" * 190} for n in range(8)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"path": str(folder / "rows.jsonl")}
    sft = given["algorithm"] == "sft"
    return {
        "recipe": "rl",
        "output": str(folder / f"run-{Path(model).name}"),
        "policy": {"model": model},
        **({"demonstrations": source} if sft else {"prompts": source, "rewards": {"short": {"length": 10.0}}}),
        "rollout": {
            "prompts_per_step": 4,
            "responses_per_prompt": 4,
            "max_prompt_length": 256,
            "max_response_length": 200,
        },
        "optimization": {"steps": 2, "updates_per_step": 2, "rows_per_batch": 4, "threads": 1, "device": "cpu"},
        "sft": {"rows_per_step": 8},
        "guards": {"every": 10, "prompts": 2},
        **given,
    }


def main() -> None:
    folder, given = Path(sys.argv[1]), json.loads(sys.argv[2])
    shape = given.pop("shape")
    small = saved(folder / "small", 0, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    large = saved(folder / "large", **shape)

    def train(model: str):  # type: ignore[no-untyped-def]
        config = parse_run(settings_of(folder, model, given))
        run_policy(config, TestbedParts(config.testbed, config.seed))
        return config

    train(small)  # what the libraries take once
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    config = train(large)
    estimate = policy_memory(Shape.of(transformers.AutoConfig.from_pretrained(large)), config)
    print(json.dumps({"peak": resident("VmHWM") - before, "estimate": estimate.total, "parts": vars(estimate)}))


if __name__ == "__main__":
    main()
