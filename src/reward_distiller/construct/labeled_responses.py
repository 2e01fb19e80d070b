"""Responses with pseudo-rewards as what a reward model is trained on: one by one, or in pairs within a prompt.

A pseudo-reward is from 0 to 1; as a score it is on the teacher's scale from 1 to 10. Knows nobody who gave it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reward_distiller.balance import Balance
from reward_distiller.records import Pair, Prompt
from reward_distiller.rows import Fields, Rows


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


def singles(responses: Iterable[LabeledResponse]) -> list[Pair]:
    """Each response by itself: a pair of it with itself, which stands for one."""
    return [Pair.of(r.prompt, r.text, r.text, "labeled", **_scores(r, r)) for r in responses]


def pairs_within(responses: Sequence[LabeledResponse], per_prompt: int, seed: int) -> tuple[list[Pair], Balance]:
    """Up to `per_prompt` pairs of a prompt's responses with different rewards, drawn without replacement.

    The draw depends on the seed and the prompt alone. A prompt whose responses all got the same is dropped.
    """
    of_prompt: dict[str, list[LabeledResponse]] = {}
    for response in responses:
        of_prompt.setdefault(response.prompt.id, []).append(response)
    balance = Balance("pair within prompts", "prompts", len(of_prompt))
    pairs = []
    for identity, own in of_prompt.items():
        unequal = [(w, l) for w in own for l in own if w.reward > l.reward]
        if not unequal:
            balance.lose("dropped", "all its responses have the same reward", identity)
            continue
        drawn = random.Random(f"pairs:{seed}:{identity}").sample(unequal, min(per_prompt, len(unequal)))
        pairs += [Pair.of(w.prompt, w.text, l.text, "labeled", **_scores(w, l)) for w, l in drawn]
        balance.keep()
    return pairs, balance.check()


def _scores(chosen: LabeledResponse, rejected: LabeledResponse) -> dict[str, object]:
    models = {f"{side}_model": r.sampler for side, r in (("chosen", chosen), ("rejected", rejected)) if r.sampler}
    return {"chosen_score": chosen.score, "rejected_score": rejected.score, "provenance": models}
