"""Run folders with the pairs that a test of the browser needs, as a reward model's run leaves them."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

HOSTILE = (
    "<script>document.title='ran'</script></script></textarea><img src=x onerror=\"document.title='ran'\">"
    "{{ 7 * 7 }} &lt;b&gt; \u202edesrever\u202c \u05e9\u05dc\u05d5\u05dd \x00\x1b[31m \ud800 \u200bend\r\nnext"
)
LINE = "<b>" + "z" * 1_000_000 + "</b>the end"


def pair(at: int, source: str, chosen: str, rejected: str, **more: Any) -> dict[str, Any]:
    """A row of pairs.jsonl; `more` may name its prompt, scores and diagnosis."""
    scores = more.get("scores", (7.0, 4.0))
    return {
        "id": more.get("id", f"pair{at}"),
        "prompt_id": more.get("prompt_id", f"prompt{at}"),
        "prompt": [{"role": "user", "content": more.get("prompt", f"Question {at}?")}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "chosen_score": scores[0],
        "rejected_score": scores[1],
        "chosen_critique": more.get("critique"),
        "source": source,
        "provenance": {"chosen_model": "one", "rejected_model": "two", "diagnosis": more.get("diagnosis")},
    }


def along(text: str, opening: float = 0.0) -> dict[str, Any]:
    """Values that rise by their number at every character."""
    values = list(itertools.accumulate(0.01 * (i if i % 3 else -i) for i in range(1, len(text) + 1)))
    return {"opening": opening, "ends": list(range(1, len(text) + 1)), "values": values, "end": 0.5}


def write_rows(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def run_folder(
    folder: Path, pairs: list[dict[str, Any]], rewards: dict[str, Any] | None = None, tokens: tuple[str, ...] = ()
) -> Path:
    """`rewards` are (chosen, rejected) by id; every fourth pair is held out; `tokens` have values along them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("recipe: reward_model\nmethod: rm_distiller\nseed: 0\n", "utf-8")
    (folder / "results.json").write_text(json.dumps({"method": "rm_distiller", "seed": 0}), "utf-8")
    write_rows(folder / "pairs.jsonl", pairs)
    if rewards is not None:
        rows = []
        for at, row in enumerate(pairs):
            split = {"id": row["id"], "prompt_id": row["prompt_id"], "split": "training" if at % 4 else "held_out"}
            chosen, rejected = rewards.get(row["id"], (None, None))
            rows.append({**split, "chosen": chosen, "rejected": rejected})
        write_rows(folder / "pair_rewards.jsonl", rows)
    texts = {row["id"]: (row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in pairs}
    rows = [{"id": at, "chosen": along(texts[at][0]), "rejected": along(texts[at][1])} for at in tokens]
    write_rows(folder / "token_values.jsonl", rows)
    return folder


def many(count: int, seed: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Pairs as an unlabeled run makes them, half of them refined, with rewards; in words as frequent as English has."""
    rng = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(rng.choices(letters, range(len(letters), 0, -1), k=rng.randint(2, 9))) for _ in range(20000)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, len(words) + 1)))

    def text(length: int) -> str:
        return " ".join(rng.choices(words, cum_weights=weights, k=length)) + "."

    pairs: list[dict[str, Any]] = []
    while len(pairs) < count:
        at, shared = len(pairs), {"prompt": text(rng.randint(8, 60)), "prompt_id": f"prompt{len(pairs)}"}
        rejected = text(rng.randint(60, 300))
        pairs.append(pair(at, "sampled", text(rng.randint(60, 300)), rejected, **shared))
        edited = rejected.split(" ")
        for place in rng.sample(range(len(edited)), 6):
            edited[place] = rng.choice(words)
        scores = (float(rng.randint(6, 10)), float(rng.randint(1, 5)))
        why = {"diagnosis": text(25), "scores": scores}
        pairs.append(pair(at + 1, "refined", " ".join(edited), rejected, **shared, **why))
    rewards = {row["id"]: (rng.gauss(1, 1), rng.gauss(0, 1)) for row in pairs[:count]}
    return pairs[:count], rewards
