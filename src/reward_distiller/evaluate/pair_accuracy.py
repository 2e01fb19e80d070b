"""Accuracy on preference pairs, and the baselines that a skeptic asks for.

Intervals are over prompts, since pairs of one prompt are not independent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from reward_distiller.evaluate.statistics import Figure, percent
from reward_distiller.records import Pair, Prompt

PairScorer = Callable[[Pair], tuple[float, float]]
RowScorer = Callable[[Sequence[tuple[Prompt, Sequence[str]]]], list[list[float]]]  # prompts with responses -> rewards


def accuracy(pairs: Sequence[Pair], score: PairScorer, *, tie: float = 0.0) -> Figure:
    """Share of pairs with the chosen response strictly above; a tie counts `tie`."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        chosen, rejected = score(pair)
        by_prompt[pair.prompt.id].append(tie if chosen == rejected else float(chosen > rejected))
    means = [sum(v) / len(v) for v in by_prompt.values()]
    return percent(means, [len(v) for v in by_prompt.values()])


def accuracy_difference(pairs: Sequence[Pair], score: PairScorer, other: PairScorer) -> Figure:
    """The accuracy of one scorer less that of another on the same pairs, in points, resampled over prompts."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        (w, l), (w_other, l_other) = score(pair), other(pair)
        by_prompt[pair.prompt.id].append(float(w > l) - float(w_other > l_other))
    return percent([sum(v) / len(v) for v in by_prompt.values()], [len(v) for v in by_prompt.values()])


def by_rewards(pairs: Sequence[Pair], score_rows: RowScorer) -> PairScorer:
    """A scorer of pairs that looks up rewards computed for all of them at once."""
    rewards = dict(
        zip((p.id for p in pairs), score_rows([(p.prompt, (p.chosen, p.rejected)) for p in pairs]), strict=True)
    )
    return lambda pair: (rewards[pair.id][0], rewards[pair.id][1])


def longer(pair: Pair) -> tuple[float, float]:
    """Always the longer response, in characters."""
    return len(pair.chosen), len(pair.rejected)


def source_model(training: Sequence[Pair]) -> PairScorer | None:
    """Knowing only which model wrote it: Bradley-Terry strengths of the models, fitted to the training pairs.

    None where the pairs do not name their models. A model never seen in training has strength 0.
    """
    wins: dict[tuple[str, str], int] = defaultdict(int)
    for pair in training:
        chosen, rejected = pair.provenance.get("chosen_model"), pair.provenance.get("rejected_model")
        if chosen and rejected and chosen != rejected:
            wins[chosen, rejected] += 1
    if not wins:
        return None
    strength = {m: 0.0 for m in sorted({m for pair in wins for m in pair})}
    for _ in range(500):  # Newton-like steps per model, with one virtual draw against strength 0 as a prior
        for model in strength:
            gradient, curvature = -0.5 * math.tanh(strength[model] / 2), 0.25
            for (w, l), n in wins.items():
                if model in (w, l):
                    other = l if model == w else w
                    p = 1 / (1 + math.exp(strength[other] - strength[model]))
                    gradient += n * ((model == w) - p)
                    curvature += n * p * (1 - p)
            strength[model] += gradient / curvature * 0.5

    def score(pair: Pair) -> tuple[float, float]:
        names = pair.provenance.get("chosen_model"), pair.provenance.get("rejected_model")
        return strength.get(str(names[0]), 0.0), strength.get(str(names[1]), 0.0)

    return score
