"""Run folders as recipes leave them, written by hand: small, of every kind, with hostile text where text may stand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import yaml

HOSTILE = "<script>alert(1)</script>\"'>\u202e</textarea>\x00\ud800<img src=x onerror=alert(2)>"
COST = [
    {
        "step": "annotate",
        "model": "teacher",
        "calls": 60,
        "input_tokens": 9000,
        "output_tokens": 120,
        "without_usage": 0,
        "money": 0.25,
    },
    {
        "step": "candidates",
        "model": HOSTILE,
        "calls": 120,
        "input_tokens": 5000,
        "output_tokens": 1400,
        "without_usage": 2,
        "money": None,
    },
]
ENVIRONMENT = {
    "python": "3.11.2",
    "reward-distiller": "0.1.0",
    "packages": {"torch": "2.13.0"},
    "commit": "0123456789abcdef",
    "uncommitted_changes": True,
}


def figure(value: float, spread: float = 5.0, n: int = 40) -> dict[str, Any]:
    return {"value": value, "low": value - spread, "high": value + spread, "n": n}


def write(folder: Path, name: str, value: Any) -> None:
    """JSON, YAML or rows, as the name says."""
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in value)
    else:
        text = yaml.safe_dump(value) if name.endswith(".yaml") else json.dumps(value)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, "utf-8")


def balance(
    step: str, kept: int, unit: str = "pairs", notes: dict[str, int] | None = None, **lost: int
) -> dict[str, Any]:
    fates = dict.fromkeys(("tied", "disagreed", "filtered", "dropped", "quarantined", "failed"), 0) | lost
    return {
        "step": step,
        "unit": unit,
        "in": kept + sum(fates.values()),
        "kept": kept,
        **fates,
        "reasons": {fate: {f"why {HOSTILE}": count} for fate, count in lost.items()},
        "examples": {},
        **({"notes": notes} if notes else {}),
    }


def pair_rows(count: int = 60) -> list[dict[str, Any]]:
    rng, rows = random.Random(0), []
    for at in range(count):
        scores = (float(rng.randint(6, 10)), float(rng.randint(1, 5)))
        text = f"{HOSTILE} " + "word " * rng.randint(1, 30)
        shared = {
            "prompt_id": f"p{at}",
            "prompt": [{"role": "user", "content": f"{HOSTILE} {at}"}],
            "rejected": [{"role": "assistant", "content": text}],
            "rejected_score": scores[1],
            "teacher_response": None,
        }
        sampled = {
            "id": f"s{at}",
            "chosen": [{"role": "assistant", "content": text + "better " * 3}],
            "chosen_score": scores[0],
        }
        rows.append(
            {**shared, **sampled, "source": "sampled", "provenance": {"chosen_shown": 1 + at % 2, "chosen_model": "m"}}
        )
        if at % 2:
            refined = {
                "id": f"r{at}",
                "chosen": [{"role": "assistant", "content": text.replace("word", "mended", 1)}],
                "chosen_score": 9.0,
            }
            note = {"refined_from": f"s{at}", "diagnosis": HOSTILE}
            rows.append({**shared, **refined, "source": "refined", "provenance": note})
    return rows


def reward_model(folder: Path, **changes: Any) -> Path:
    """A finished run of recipe `reward_model`, with all that it may have; `changes` replace parts of results.json."""
    pairs = pair_rows()
    write(
        folder,
        "config.yaml",
        {
            "recipe": "reward_model",
            "method": "rm_distiller",
            "seed": 3,
            "output": HOSTILE.replace("\x00", "").replace("\ud800", ""),
            "teacher": {"base_url": "http://me:secret@host/v1"},
        },
    )
    write(folder, "environment.json", ENVIRONMENT)
    both = {"asked in both orders": 80, "of these with another verdict in the other order": 8}
    steps = [
        balance("load prompts", 80, "rows"),
        balance("annotate", 60, tied=15, quarantined=5, notes=both),
        balance("filter edits", 30, filtered=30),
    ]
    write(folder, "balance.json", steps)
    write(folder, "pairs.jsonl", pairs)
    splits = ("held_out", "training", "validation")
    rewards = [
        {"id": p["id"], "chosen": math.sin(at) + 0.5, "rejected": math.cos(at) - 0.5, "split": splits[at % 3]}
        for at, p in enumerate(pairs)
    ]
    write(
        folder, "pair_rewards.jsonl", [*rewards, {"id": "long", "chosen": None, "rejected": None, "split": "training"}]
    )
    log = [
        {
            "step": s,
            "loss": 9 / s,
            "pair_loss": 8 / s,
            "nll": 0.3,
            "kl": 0.0,
            "center": 1 / s,
            "accuracy": 0.5 + s / 1000,
            "reward_margin": s / 100,
            "grad_norm": 80 / s,
            "learning_rate": 1e-3,
        }
        | ({"validation_pair_loss": 7 / s, "validation_accuracy": 0.6} if s % 50 == 0 else {})
        for s in range(1, 401)
    ]
    write(folder, "training.jsonl", log)
    style = {name: {**figure(0.2, 0.1), "differing": 30} for name in ("label", "length", "politeness")}
    style["headings"] = {"value": None, "low": None, "high": None, "n": 40, "differing": 0}
    edits = [{"edit": "position", "side": "wrong", "flips": figure(0.1, 0.05), "shift": figure(-0.2, 0.1), "pairs": 20}]
    edits += [{"edit": "doubled_space", "side": "right", "flips": None, "shift": None, "pairs": 0}]
    bins = [
        {"low": 0.5, "high": 0.6, "pairs": 12, "confidence": 0.55, "frequency": 0.5},
        {"low": 0.9, "high": 1.0, "pairs": 30, "confidence": 0.95, "frequency": 0.8},
    ]
    results = {
        "method": "rm_distiller",
        "seed": 3,
        "model": "runs/model",
        "held_out": {
            "too_long": 0,
            "pairs": "abc",
            "accuracy": figure(80.0),
            "longer_response": figure(60.0),
            "source_model": figure(79.0),
        },
        "ahead": {"held_out": {"longer_response": figure(20.0), "source_model": figure(1.0)}},
        "testbed": {"easy": figure(90.0), "normal": figure(70.0), "hard": figure(50.0), "average": figure(70.0)},
        "calibration": {
            "held_out": {
                "unit": "points",
                "figures": {"spearman": figure(0.5, 0.1), "slope": figure(0.3, 0.1)},
                "reliability": bins,
                "pairs": 42,
                "ties": 1,
            }
        },
        "bias_audit": {"held_out": {"style": style}, "testbed": {"style": style, "edits": edits}},
        "evalbiasbench": {"overall": figure(55.0)},
        "contamination": {"evalbiasbench": {"exact": 1, "near": 2, "benchmark": 80}},
        "pairs_held_out": 20,
        "training": {
            "run_key": "535cd91652cdc35c",
            "pairs": 60,
            "pairs_by_source": {"sampled": 60},
            "dropped": {},
            "steps": 400,
        },
        "cost": COST,
    }
    write(folder, "results.json", {**results, **changes})
    write(folder, "evaluation/results.json", evaluation_results())
    return folder


def evaluation_results(**changes: Any) -> dict[str, Any]:
    rows = {**balance("load evalbiasbench", 80, "rows"), "examples": 80, "no_answer": {HOSTILE: 1}}
    metrics = {"overall": figure(55.0), "category.length": figure(40.0), f"category.{HOSTILE}": figure(45.0)}
    return {
        "scorer": {"model": "0" * 64, "max_length": 512},
        "benchmarks": {"evalbiasbench": {"metrics": metrics, "rows": rows, "notes": [f"a note {HOSTILE}"]}},
        "contamination": {
            "checked": True,
            "training_prompts": 100,
            "benchmarks": {"evalbiasbench": {"exact": 1, "near": 2, "benchmark": 80}},
        },
        "cost": [],
        **changes,
    }


def evaluation(folder: Path) -> Path:
    found = evaluation_results(against={"baseline": "length"})
    found["benchmarks"]["evalbiasbench"]["difference"] = {"overall": {**figure(-9.0), "p": 0.0004}}
    write(folder, "results.json", found)
    return folder


def policy(folder: Path) -> Path:
    write(folder, "config.yaml", {"recipe": "rl", "algorithm": "grpo", "seed": 0})
    write(folder, "environment.json", ENVIRONMENT | {"commit": None})
    rows = []
    for step in range(1, 21):
        row = {
            "step": step,
            "loss": 0.1,
            "grad_norm": 1.0,
            "kl": step / 10,
            "entropy": 1 / step,
            "reward": step / 5,
            "tokens": 15.0,
        }
        looks = {"look_reward": step / 5, "look_kl": step / 8, "look_quality": 0.5 - step / 100, "look_tokens": 16.0}
        rows.append(row | (looks if step % 5 == 0 else {}))
    write(folder, "rl.jsonl", rows)
    figures = {"quality": figure(40.0), "reward": figure(2.0), "kl": figure(2.5)}
    write(
        folder,
        "results.json",
        {
            "recipe": "rl",
            "algorithm": "grpo",
            "seed": 0,
            "model": "m",
            "training": {},
            "policy": figures,
            "start": {n: figure(1.0) for n in figures},
            "cost": [],
        },
    )
    best = {str(n): figure(float(n)) for n in (1, 2, 4)}
    write(
        folder,
        "best_of_n.json",
        {"samples": 4, "prompts": 40, "kl": {"1": 0.0, "2": 0.19, "4": 0.64}, "reward": best, "quality": best},
    )
    return folder


def comparison(folder: Path, seeds: int = 2) -> Path:
    """Two arms, one of a hostile name."""
    arms = {}
    for at, arm in enumerate(("bradley_terry", HOSTILE.replace("\x00", "").replace("\ud800", ""))):
        metrics = {"testbed.average": 60.0 + 5 * at, "held_out.accuracy": 70.0 + at}
        summary = {m: {"mean": v, "low": v - 2, "high": v + 2, "n_seeds": seeds} for m, v in metrics.items()}
        change = {"mean": 5.0, "low": 1.0, "high": 9.0, "p": 0.03, "p_holm": 0.03}
        made = {
            "key": "k",
            "folder": str(folder / "none"),
            "figures": {m: figure(v) for m, v in metrics.items()},
            "too_long": 0,
            "held_out_pairs": "x",
            "pairs": 60,
            "pairs_by_source": {"sampled": 60},
            "cost": COST,
            "train_seconds": 5.0,
        }
        arms[arm] = {
            "changes": [f"method={arm}"],
            "method": arm,
            "teacher": "t",
            "runs": {str(s): made for s in range(seeds)},
            "summary": summary,
            "difference": {"testbed.average": change} if at else {},
        }
    results = {
        "recipe": "compare",
        "seeds": list(range(seeds)),
        "columns": ["testbed.average", "held_out.accuracy"],
        "compare_on": "testbed.average",
        "arms": arms,
        "pairs": [],
    }
    write(folder, "results.json", results)
    return folder


def pseudo_rewards(folder: Path) -> Path:
    write(folder, "config.yaml", {"recipe": "pseudo_rewards", "seed": 0})
    write(
        folder, "responses.jsonl", [{"reward": at % 2, "sampler": "teacher", "response": HOSTILE} for at in range(20)]
    )
    groups = {
        "responses": {"pseudo_reward": figure(50.0), "labels_right": figure(90.0)},
        "vote": {"share": figure(70.0)},
    }
    write(
        folder,
        "results.json",
        {
            "recipe": "pseudo_rewards",
            "seed": 0,
            "sampler": "teacher",
            **groups,
            "counts": {"queries": 10, "responses": 20},
            "cost": COST,
        },
    )
    return folder


def data_and_rewards(folder: Path) -> Path:
    write(folder, "config.yaml", {"recipe": "data_and_rewards", "seed": 0})
    policy_figures = {"accuracy": figure(60.0), "reward": figure(1.0)}
    results = {
        "recipe": "data_and_rewards",
        "seed": 0,
        "model": "m",
        "reward_model": "r",
        "runs": {"labels": "a", "rl": "b"},
        "labels": {"vote.share": figure(70.0)},
        "rl": policy_figures,
        "policy": policy_figures,
        "spent": {},
        "cost": [{"run": "labels", **row} for row in COST],
    }
    write(folder, "results.json", results)
    return folder


KINDS = {
    "reward_model": reward_model,
    "evaluation": evaluation,
    "policy": policy,
    "comparison": comparison,
    "pseudo_rewards": pseudo_rewards,
    "data_and_rewards": data_and_rewards,
}
