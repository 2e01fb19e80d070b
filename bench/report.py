"""From timed blocks to rows: medians of paired ratios with their interval, rates, and the table."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from typing import Any

from bench.counting import Shape, Work
from bench.sets import Items
from bench.settings import PAPER_TRAINER, Comparison

RESAMPLES = 4000
Timed = dict[str, list[dict[str, Any]]]  # side -> its answer for every measured block


def interval(ratios: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the medians of blocks drawn anew with replacement."""
    rng = random.Random(seed)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


def make_row(
    name: str,
    comparison: Comparison,
    other: str,
    items: Items,
    timed: Timed,
    memory: dict[str, float],
    shape: Shape,
    peak: float,
) -> dict[str, Any]:
    """The row of trees against one side (`other` is "" where they stand alone). `peak` in operations a second."""
    blocks = items.blocks[1:]
    training = comparison.trains
    sides = ["tree", *([other] if other else [])]
    units = sum(items.units(block) for block in blocks)
    needed = {side: sum((items.needed(block, side) for block in blocks), Work()) for side in sides}
    seconds = {side: sum(answer["seconds"] for answer in timed[side]) for side in sides}
    useful = needed["tree"]
    row: dict[str, Any] = {"name": name, "ratio": None, "low": None, "high": None}
    if other:
        pairs = list(zip(timed[other], timed["tree"], strict=True))
        ratios = [theirs["seconds"] / ours["seconds"] for theirs, ours in pairs]
        slots = sum(int(answer["slots"]) for answer in timed[other])
        padded = Work(slots, sum(int(answer["attended"]) for answer in timed[other]), needed[other].head)
        row |= {"ratio": statistics.median(ratios), "ratios": ratios}
        row |= dict(zip(("low", "high"), interval(ratios), strict=True))
        row["predicted"] = (slots + padded.head) / (useful.tokens + useful.head)
        row["predicted_flops"] = shape.flops(padded, training=training) / shape.flops(useful, training=training)
        row["loss_difference"] = max(abs(theirs["loss"] - ours["loss"]) / abs(ours["loss"]) for theirs, ours in pairs)
        if not training:
            ours_N, theirs_N = ([x for answer in timed[side] for x in answer["rewards"]] for side in sides)
            row["reward_difference"] = max(abs(a - b) for a, b in zip(ours_N, theirs_N, strict=True))
            row["reward_deviation"] = statistics.pstdev(ours_N)
    unit = "pairs" if training else "responses"
    row[f"{unit}_per_second"] = {side: units / seconds[side] for side in sides}
    row["distinct_tokens_per_second"] = {side: useful.tokens / seconds[side] for side in sides}
    row["peak_memory_mb"] = {side: memory[side] for side in sides}
    flops = {side: shape.flops(needed[side], training=training) for side in sides}
    row["matmul_fraction"] = {side: flops["tree"] / seconds[side] / peak for side in sides}
    row["needed_matmul_fraction"] = {side: flops[side] / seconds[side] / peak for side in sides}
    row["slots"] = {side: sum(answer["slots"] for answer in timed[side]) for side in sides}
    row["needed_tokens"] = {side: needed[side].tokens for side in sides}
    row["head_tokens"] = {side: needed[side].head for side in sides}
    row["seconds"] = {side: [answer["seconds"] for answer in timed[side]] for side in sides}
    # Near the number of threads on a quiet machine; less says that somebody else had the cores.
    row["cores_used"] = {side: sum(answer["cpu_seconds"] for answer in timed[side]) / seconds[side] for side in sides}
    row |= {"repeats": len(blocks), unit: units, "per_block": comparison.per_block, "left_out": +items.left_out}
    if comparison.profile == "ultrafeedback":
        row["ratio_to_paper_trainer"] = units / seconds["tree"] / PAPER_TRAINER
    return row


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: what a reader wants to see of each row."""
    lines = [
        "| row | ratio (95 %) | predicted | by flops | per second | share of matmul peak | peak memory, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        predicted, by_flops = (f"{row[k]:.2f}" if k in row else "" for k in ("predicted", "predicted_flops"))
        rate = row.get("pairs_per_second") or row["responses_per_second"]
        cells = [
            row["name"],
            ratio,
            predicted,
            by_flops,
            " / ".join(f"{side} {x:.3g}" for side, x in rate.items()),
            " / ".join(f"{x:.0%}" for x in row["matmul_fraction"].values()),
            " / ".join(f"{x:.0f}" for x in row["peak_memory_mb"].values()),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
