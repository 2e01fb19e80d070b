"""Closing the triangle of a sampled and a refined pair: the refined against the once chosen response. Asks nobody.

    y_w ─ sampled ─ y_l ─ refined ─ y_w*   gives   y_w* ─ closed ─ y_w

Both margins are taken from y_l, so their difference is that of y_w* and y_w, on the scale of the sampled pair.
A sampled pair differs in substance and in style at once, a refined one in substance alone; in a closed pair the
substance of the one stands against the style of the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from reward_distiller.construct.balance import Balance
from reward_distiller.records import Pair


def close_triangles(pairs: Sequence[Pair], refined: Sequence[Pair]) -> tuple[list[Pair], Balance]:
    """A closed pair for each refined one, where the two differ in text and in score."""
    sampled = {p.id: p for p in pairs}
    closed: dict[str, Pair] = {}
    balance = Balance("close", "refined pairs", len(refined))
    for item in refined:
        origin = sampled[str(item.provenance["refined_from"])]
        if item.chosen == origin.chosen:
            balance.lose("dropped", "the refined response is the chosen one", item.id)
            continue
        pair = _closed(item, origin)
        if pair.margin == 0:
            balance.lose("tied", "equal scores", item.id)
            continue
        if pair.id in closed:
            balance.lose("dropped", "duplicate closed pair", item.id)
            continue
        closed[pair.id] = pair
        balance.keep()
    return list(closed.values()), balance.check()


def _closed(refined: Pair, origin: Pair) -> Pair:
    assert refined.margin is not None
    assert origin.chosen_score is not None
    assert origin.rejected_score is not None
    score = origin.rejected_score + refined.margin
    sides = [(refined.chosen, score), (origin.chosen, origin.chosen_score)]
    better, worse = sides if score >= origin.chosen_score else reversed(sides)
    return Pair.of(
        origin.prompt,
        better[0],
        worse[0],
        "closed",
        chosen_score=better[1],
        rejected_score=worse[1],
        teacher_response=origin.teacher_response,
        provenance={"refined_from": origin.id, "refined": refined.id},
    )
