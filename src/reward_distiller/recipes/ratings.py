"""Recipe `ratings`: what several people said of systems' responses, and how far they agree (paper, table 13)."""

from __future__ import annotations

from typing import Any

from reward_distiller.errors import DataError
from reward_distiller.evaluate.human_ratings import Ratings, load, summarize
from reward_distiller.evaluate.resampling import Estimate
from reward_distiller.recipes.evaluation_table import interval


def ratings(path: str) -> dict[str, Any]:
    """What `table` shows. Raises DataError that names row and field for what is no rating."""
    rated = load(path)
    if not rated:
        raise DataError(path, "no response has a score", field="scores", mend="Write whole numbers from 1 to 5")
    return as_dict(summarize(rated))


def as_dict(found: Ratings) -> dict[str, Any]:
    results: dict[str, Any] = {
        "systems": {name: estimate.as_dict() for name, estimate in found.systems.items()},
        "raters": list(found.raters),
        "scores": found.scores,
    }
    if found.difference:
        results["difference"] = {"systems": list(found.difference.systems), **found.difference.estimate.as_dict()}
    if found.agreement:
        agreement: dict[str, Estimate] = vars(found.agreement)
        results["agreement"] = {name: estimate.as_dict() for name, estimate in agreement.items()}
    return results


def table(results: dict[str, Any]) -> str:
    """As Markdown: a system a row, then the paired difference and the agreement."""
    lines = ["| system | mean score, 1 to 5 | responses |", "|---|---:|---:|"]
    lines += [f"| {name} | {interval(one, 2)} | {one['n']:,} |" for name, one in results["systems"].items()]
    lines += ["", f"{results['scores']:,} scores by {len(results['raters'])} raters; 95% intervals over responses."]
    if change := results.get("difference"):
        first, second = change["systems"]
        lines.append(f"{first} − {second}: {interval(change, 2)} over {change['n']:,} prompts that both answered.")
    if agreement := results.get("agreement"):
        lines += ["", "| agreement | | responses with two scores or more |", "|---|---:|---:|"]
        names = {
            "alpha_ordinal": "Krippendorff's α, ordinal",
            "alpha_interval": "Krippendorff's α, interval",
            "spearman": "mean Spearman correlation of two raters",
        }
        lines += [f"| {names[name]} | {interval(one, 3)} | {one['n']:,} |" for name, one in agreement.items()]
    return "\n".join([*lines, ""])
