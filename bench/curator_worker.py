"""Bespoke Labs' Curator as a side of `bench.teacher`, in an environment of its own (curator-requirements.txt).

python -m bench.curator_worker BODIES

As its users run it: a subclass of `curator.LLM` over a data set, its OpenAI back end, a fresh working folder each time.
Its limits on requests and tokens a minute are set so high that only the concurrency binds. Its telemetry, which would
leave the machine, is off, and so is its live display. The tokenizer that it counts with would be downloaded; the copy
that its dependency litellm ships serves as well.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.process import peak_memory_mb
from bench.turns import Turns

os.environ |= {"TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1", "HF_HUB_OFFLINE": "1"}
litellm = find_spec("litellm")
assert litellm is not None
assert litellm.origin is not None
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils/tokenizers")
UNLIMITED = 10**9  # requests, and tokens, a minute


def scorer(url: str, concurrency: int, body: dict[str, Any]) -> Any:
    from bespokelabs import curator

    class Scorer(curator.LLM):
        def prompt(self, row: Any) -> Any:
            return row["messages"]

        def parse(self, row: Any, response: Any) -> Any:
            first, second = response.split()
            return {"id": row["id"], "first": float(first), "second": float(second)}

    return Scorer(
        model_name=body["model"],
        backend="openai",
        generation_params={name: value for name, value in body.items() if name not in ("model", "messages")},
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": UNLIMITED,
            "max_tokens_per_minute": UNLIMITED,
        },
    )


def main(path: Path) -> None:
    turns = Turns()
    from datasets import Dataset

    bodies = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows = Dataset.from_list([{"id": n, "messages": body["messages"]} for n, body in enumerate(bodies)])
    turns.say(peak_memory_mb=peak_memory_mb())
    while (request := turns.next())["do"] != "end":
        chosen = rows.select(range(request["calls"]))
        start = (time.perf_counter(), time.process_time())
        llm = scorer(request["url"], request["concurrency"], bodies[0])
        answers = len(llm(chosen, working_dir=request["folder"]).dataset)
        seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        turns.say(seconds=seconds, cpu_seconds=cpu, answers=answers)
    turns.say(peak_memory_mb=peak_memory_mb())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
