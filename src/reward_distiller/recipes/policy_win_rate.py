"""Recipe `policy win-rate`: how often a judge prefers one policy's responses to another's, seen in both orders.

The folder holds results.json, table.md, every pair's verdicts (judgements.jsonl) and the ledger, so a killed comparison
goes on and buys nothing twice. Prompts are joined by what they say.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from reward_distiller.console import track
from reward_distiller.construct.label_filter import pairwise_format
from reward_distiller.errors import ConfigError, DataError
from reward_distiller.evaluate.answers import Comparisons, NoAnswer, as_json
from reward_distiller.evaluate.benchmarks.protocol import Example
from reward_distiller.evaluate.policy import win_rate
from reward_distiller.evaluate.policy.protocol import PolicyFigures
from reward_distiller.evaluate.policy.responses import Responses, by_prompt
from reward_distiller.evaluate.verdicts import Verdict
from reward_distiller.files import fingerprint, locked, remove_partial, write_rows
from reward_distiller.recipes.judges import JudgeSettings, judge_scorer
from reward_distiller.recipes.parts import Parts
from reward_distiller.recipes.policy_results import markdown, shown, write


def compare_policies(
    ours: Responses, other: Responses, judge: str, settings: JudgeSettings, output: Path, parts: Parts
) -> dict[str, Any]:
    """The win rate of one policy's responses over another's on the prompts that both answer, as results.json holds it.

    Raises ConfigError for a judge that sees one response at a time, DataError where the two share no prompt.
    """
    pairwise_format(settings.format, settings.reasoning)
    (mine, our_rows), (theirs, other_rows) = by_prompt(ours), by_prompt(other)
    common = [prompt for prompt in mine if prompt in theirs]
    if not common:
        raise DataError(
            other.path, f"it shares no prompt with {ours.path}", mend="Prompts must be equal, word for word"
        )
    examples = [Example(p.id, p, (mine[p], theirs[p])) for p in common if mine[p] != theirs[p]]
    with (
        locked(output / ".lock", ConfigError),
        judge_scorer(judge, settings, output / "ledger.sqlite", parts) as scorer,
    ):
        remove_partial(output)
        with track("policy: win rate", 2 * len(examples)) as advance:
            answers = scorer.answer(examples, advance)
        scorer.engine.say_calls()
        identity, cost, quarantine = scorer.identity, scorer.cost(), scorer.quarantine
    said = [{"prompt": e.prompt.id, **as_json(answer)} for e, answer in zip(examples, answers, strict=True)]
    write_rows(output / "judgements.jsonl", said)
    silent = Counter(answer.reason for answer in answers if isinstance(answer, NoAnswer))
    compared = [win_rate.Compared("tie", "tie", identical=True)] * (len(common) - len(examples))
    compared += [_compared(answer) for answer in answers if isinstance(answer, Comparisons)]
    results: dict[str, Any] = {
        "policies": [ours.model or str(ours.path), other.model or str(other.path)],
        "responses": [fingerprint(ours.path), fingerprint(other.path)],
        "judge": identity,
        **shown(win_rate.figures(compared) if compared else PolicyFigures({}, ["no pair has a verdict"])),
        "prompts": {
            "common": len(common),
            "only_first": len(mine) - len(common),
            "only_second": len(theirs) - len(common),
            "no_verdict": dict(sorted(silent.items())),
        },
        "rows": [our_rows.as_dict(), other_rows.as_dict()],
        "cost": cost,
    }
    write(output, results, quarantine, _win_rate_table(results))
    return results


def _compared(answer: Comparisons) -> win_rate.Compared:
    margins = {(i, j): margin for i, j, margin in answer.margins}
    turned = margins.get((1, 0))
    return win_rate.Compared(_verdict(margins.get((0, 1))), _verdict(None if turned is None else -turned))


def _verdict(margin: float | None) -> Verdict | None:
    if margin is None:
        return None
    return "first" if margin > 0 else "second" if margin < 0 else "tie"


def _win_rate_table(results: dict[str, Any]) -> str:
    prompts, (first, second) = results["prompts"], results["policies"]
    parts = [f"{prompts['common']:,} common prompts"]
    parts += [f"{prompts['only_first']:,} and {prompts['only_second']:,} that one of the two alone answers"]
    parts += [f"{count:,} without a verdict ({why})" for why, count in prompts["no_verdict"].items()]
    return markdown(f"{first} against {second}", results, ["; ".join(parts) + "."])
