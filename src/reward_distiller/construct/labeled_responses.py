"""Responses with pseudo-rewards as what a reward model is trained on: one by one, or in pairs within a prompt.

A pseudo-reward is from 0 to 1; as a score it is on the teacher's scale from 1 to 10. Knows nobody who gave it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from reward_distiller.balance import Balance
from reward_distiller.records import Pair, Prompt
from reward_distiller.rows import Fields, Rows

POLICY = "policy"  # the sampler that is no teacher
RIGHT = 0.75  # the least pseudo-reward of a response that a reward model is to learn to write


@dataclass(frozen=True)
class LabeledResponse:
    """`sampler` is who wrote it."""

    prompt: Prompt
    text: str
    reward: float
    sampler: str = ""

    @property
    def score(self) -> float:
        """The pseudo-reward on the teacher's scale from 1 to 10."""
        return 1 + 9 * self.reward


def load_responses(
    sources: Iterable[tuple[str, Rows, dict[str, str]]],
) -> tuple[list[LabeledResponse], Balance]:
    """Distinct responses with `reward` from 0 to 1, in the order of the rows.

    A source is its name, rows and columns. Raises DataError for what is no such row.
    """
    seen: dict[tuple[str, str], LabeledResponse] = {}
    balance = Balance("load responses", "rows", 0)
    rows = (
        (at, number, Fields(where, number, row, c))
        for at, (where, rows, c) in enumerate(sources, 1)
        for number, row in rows
    )
    for at, number, fields in rows:
        balance.total += 1
        record = f"source {at}, row {number}"
        prompt, text, reward = fields.prompt(), fields.response("response"), fields.score("reward")
        if reward is None or not 0 <= reward <= 1:
            raise fields.wrong("reward", f"{reward!r:.40}, not a number from 0 to 1", "Bring it to that scale")
        known = seen.get((prompt.id, text))
        if not text.strip():
            balance.lose("dropped", "empty response", record)
        elif known is not None and known.reward != reward:
            raise fields.wrong("reward", f"{reward:g}, and {known.reward:g} in a row before", "Label a response once")
        elif known is not None:
            balance.lose("dropped", "duplicate response", record)
        else:
            seen[prompt.id, text] = LabeledResponse(prompt, text, reward, fields.text("sampler") or "")
            balance.keep()
    return list(seen.values()), balance.check()


def singles(responses: Sequence[LabeledResponse]) -> list[Pair]:
    """Each response by itself: a pair of it with itself, which stands for one."""
    best = _teacher_responses(responses)
    return [_pair(r, r, best) for r in responses]


def pairs_within(
    responses: Sequence[LabeledResponse], per_prompt: int, seed: int, nearest: bool = False, min_margin: float = 0.0
) -> tuple[list[Pair], Balance]:
    """Up to `per_prompt` pairs of a prompt's responses whose rewards differ, by `min_margin` at least.

    They are drawn without replacement. With `nearest`, they are those that differ in the fewest words (Levenshtein),
    drawn among equals: what is left between the two is what the reward is about, as in a refined pair of RM-Distiller.
    The draw depends on the seed and the prompt alone. A prompt without such a pair is dropped.
    """
    of_prompt: dict[str, list[LabeledResponse]] = {}
    for response in responses:
        of_prompt.setdefault(response.prompt.id, []).append(response)
    best = _teacher_responses(responses)
    balance = Balance("pair within prompts", "prompts", len(of_prompt))
    pairs = []
    for identity, own in of_prompt.items():
        unequal = [(w, l) for w in own for l in own if w.reward > l.reward and w.reward - l.reward >= min_margin]
        if not unequal:
            balance.lose("dropped", "no two of its responses have rewards that differ enough", identity)
            continue
        drawn = random.Random(f"pairs:{seed}:{identity}").sample(unequal, len(unequal))
        if nearest:
            drawn.sort(key=lambda pair: Levenshtein.distance(pair[0].text.split(), pair[1].text.split()))
        pairs += [_pair(w, l, best) for w, l in drawn[:per_prompt]]
        balance.keep()
    return pairs, balance.check()


def _teacher_responses(responses: Sequence[LabeledResponse]) -> dict[str, str]:
    """Of each prompt the teacher's best response, where it is right; the first of equally good ones."""
    best: dict[str, LabeledResponse] = {}
    for r in responses:
        known = best.get(r.prompt.id)
        if r.sampler != POLICY and r.reward >= RIGHT and (known is None or r.reward > known.reward):
            best[r.prompt.id] = r
    return {identity: r.text for identity, r in best.items()}


def _pair(chosen: LabeledResponse, rejected: LabeledResponse, teacher_responses: dict[str, str]) -> Pair:
    models = {f"{side}_model": r.sampler for side, r in (("chosen", chosen), ("rejected", rejected)) if r.sampler}
    return Pair.of(
        chosen.prompt,
        chosen.text,
        rejected.text,
        "labeled",
        chosen_score=chosen.score,
        rejected_score=rejected.score,
        teacher_response=teacher_responses.get(chosen.prompt.id),
        provenance=models,
    )
