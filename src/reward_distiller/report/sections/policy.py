"""How a policy was trained and what became of it: curves, the reward beside the truth, and what best-of-N picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reward_distiller.evaluate.plots import Curve
from reward_distiller.recipes.evaluation_table import interval
from reward_distiller.report.charts import Chart, curves
from reward_distiller.report.markup import charts, joined, paragraph, table
from reward_distiller.report.run import Run
from reward_distiller.report.section import Section
from reward_distiller.report.sections.training import STEP, points_of
from reward_distiller.report.text import name

LOOK = "look_"  # begins the name of what was seen on evaluation prompts
KL = "KL to the start, nats a response"
QUALITY = "true quality, percent"
PANELS = (  # id, title, fields and what they are called, factor, y with its unit, caption
    (
        "reward",
        "Reward",
        {"reward": "training prompts", "look_reward": "evaluation prompts"},
        1.0,
        "reward, weighted sum",
        "What the policy is trained to raise.",
    ),
    (
        "quality",
        "Quality",
        {"look_quality": "true quality", "look_accuracy": "all of it right"},
        100.0,
        QUALITY,
        "What the reward stands for, on evaluation prompts. Training never sees it. Where it falls while the reward "
        "rises, the reward is being hacked.",
    ),
    (
        "kl",
        "Distance from the start",
        {"look_kl": "evaluation prompts"},
        1.0,
        KL,
        "How far the policy has moved from the one that it started from.",
    ),
    (
        "tokens",
        "Length",
        {"tokens": "training prompts", "look_tokens": "evaluation prompts"},
        1.0,
        "length of a response, tokens",
        "Length that grows with the reward, and not with the quality, is a sign of hacking.",
    ),
    (
        "entropy",
        "Entropy",
        {"entropy": "training prompts"},
        1.0,
        "entropy, nats a token",
        "Where it goes to 0, the policy says the same whatever it is asked.",
    ),
    (
        "policy-loss",
        "Loss",
        {"loss": "loss"},
        1.0,
        "loss, of the algorithm",
        "Of algorithms with rewards it says little; of SFT it is what is minimised.",
    ),
    (
        "policy-grad-norm",
        "Gradient norm",
        {"grad_norm": "before clipping"},
        1.0,
        "gradient norm, L2",
        "Spikes say that a step was too large.",
    ),
)
UNITS = {"quality": "percent", "accuracy": "percent", "repetition": "percent", "tokens": "tokens", "kl": "nats"}
BEST = {"quality": QUALITY, "reward": "reward, weighted sum", "tokens": "length of a response, tokens"}


def policy(run: Run) -> Section | None:
    html = joined(
        _figures(run.results) if run.kind == "rl" else None,
        charts([*_log(run.policy_log), *_proxy(run.policy_log)]),
        *_best_of_n(run.best_of_n),
    )
    return Section("policy", "The policy", html) if html else None


def _figures(results: dict[str, Any]) -> Any:
    ours, start = results.get("policy") or {}, results.get("start") or {}
    rows = [
        [name(n), UNITS.get(n, "units of reward"), interval(ours[n], 2), interval(start.get(n), 2), f"{ours[n]['n']:,}"]
        for n in ours
    ]
    heads = ["figure", "unit", "policy (95% interval)", "at the start", "prompts"]
    return table("The policy, and the one that it started from", heads, rows, texts=2)


def _log(rows: Sequence[dict[str, float]]) -> list[Chart]:
    drawn = []
    for at, title, fields, factor, y, caption in PANELS:
        lines = {shown: points for field, shown in fields.items() if (points := points_of(rows, field, factor))}
        if lines:
            drawn.append(curves(at, title, caption, lines, STEP, y))
    return drawn


def _proxy(rows: Sequence[dict[str, float]]) -> list[Chart]:
    """Reward and truth over the distance that the policy has moved, look by look."""
    looks = [row for row in rows if LOOK + "kl" in row]
    if not any(LOOK + "quality" in row for row in looks):
        return []
    caption = (
        "{} at each look, over how far the policy had moved. The reward is the proxy, quality the gold: a proxy that "
        "goes on rising where the gold falls is over-optimised."
    )
    drawn = []
    for field, what, y, factor in (("reward", "Proxy", BEST["reward"], 1.0), ("quality", "Gold", QUALITY, 100.0)):
        points = sorted((row[LOOK + "kl"], factor * row[LOOK + field]) for row in looks if LOOK + field in row)
        if points:
            line: dict[str, Curve] = {what.lower(): points}
            title = f"{what} against KL"
            drawn.append(curves(f"proxy-{field}", title, caption.format(what), line, KL, y, marked=True))
    return drawn


def _best_of_n(found: dict[str, Any]) -> list[Any]:
    if not found:
        return []
    names = [n for n in BEST if n in found]
    drawn = []
    for n in names:
        points = [(found["kl"][count], figure["value"]) for count, figure in found[n].items()]
        band = [(found["kl"][count], figure["low"], figure["high"]) for count, figure in found[n].items()]
        caption = (
            f"Mean {name(n)} of the response that the reward picks out of N, N from 1 to {found['samples']}, with 95% "
            f"intervals over {found['prompts']} prompts; x is the most that so much picking moves the policy."
        )
        bands = {"the reward's pick": band}
        line = {"the reward's pick": points}
        title = f"Best of N: {name(n)}"
        x = "KL at most, nats"
        drawn.append(curves(f"best-of-n-{n}", title, caption, line, x, BEST[n], bands=bands, marked=True))
    rows = [
        [f"best of {count}", f"{kl:.2f}", *(interval(found[n][count], 2) for n in names)]
        for count, kl in found["kl"].items()
    ]
    heads = ["N", "KL at most, nats", *(BEST[n] for n in names)]
    picks = table("What the reward picks out of N responses", heads, rows)
    return [charts(drawn), picks, paragraph("95% intervals over prompts.")]
