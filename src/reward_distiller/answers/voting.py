"""The majority vote over final answers of several samples for one prompt. Knows no format: `same` is handed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from reward_distiller.errors import ConfigError

Reason = Literal["no answer", "tie", "below min_consensus"]


@dataclass(frozen=True)
class Vote:
    """What samples agree on, or why they do not.

    `votes` and `share` (of all samples, those without an answer too) are those of the first place, also where `answer`
    is None; `counted` samples have an answer.
    """

    answer: str | None
    share: float
    votes: int
    counted: int
    reason: Reason | None


def vote(answers: Sequence[str | None], same: Callable[[str, str], bool], min_consensus: float) -> Vote:
    """The answer of most samples. Two first places, or a share under `min_consensus` (0 to 1), give none.

    Where `same` is not transitive, groups depend on who is asked first: answers are taken by their number of votes,
    then alphabetically, and each joins the first group whose first member it is the same as. That first member is the
    group's answer. So the order of the samples plays no part. Raises ConfigError for another `min_consensus`.
    """
    if not 0 <= min_consensus <= 1:
        raise ConfigError(f"min_consensus is {min_consensus}: give a share from 0 to 1")
    counts = Counter(answer for answer in answers if answer is not None)
    groups: dict[str, int] = {}
    for answer, votes in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        first = next((name for name in groups if same(name, answer)), answer)
        groups[first] = groups.get(first, 0) + votes
    if not groups:
        return Vote(None, 0.0, 0, 0, "no answer")
    votes = max(groups.values())
    winners = [name for name, number in groups.items() if number == votes]
    share = votes / len(answers)
    reason: Reason | None = None
    if len(winners) > 1:
        reason = "tie"
    elif share < min_consensus:
        reason = "below min_consensus"
    return Vote(None if reason else winners[0], share, votes, counts.total(), reason)
