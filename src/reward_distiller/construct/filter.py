"""The two strict filters on refined pairs (paper, equation 3)."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from reward_distiller.balance import Balance
from reward_distiller.construct.refine import Refined
from reward_distiller.records import Pair


def filter_edits(refined: Sequence[Refined], tau_e: int) -> tuple[list[Refined], Balance]:
    """dist_edit(y_w*, y_l) > tau_e in characters. Runs before scoring: an unchanged response need not be scored."""
    kept = []
    balance = Balance("filter edits", "refined pairs", len(refined))
    for item in refined:
        if Levenshtein.distance(item.response, item.pair.rejected, score_cutoff=tau_e) > tau_e:
            kept.append(item)
            balance.keep()
        else:
            balance.lose("filtered", f"edit distance at most {tau_e}", item.pair.id)
    return kept, balance.check()


def filter_margins(pairs: Sequence[Pair], tau_s: float) -> tuple[list[Pair], Balance]:
    """s_T(x, y_w*) - s_T(x, y_l) > tau_s in points of the teacher's scale."""
    kept = []
    balance = Balance("filter margins", "refined pairs", len(pairs))
    for pair in pairs:
        if pair.margin is not None and pair.margin > tau_s:
            kept.append(pair)
            balance.keep()
        else:
            balance.lose("filtered", f"margin at most {tau_s:g}", pair.id)
    return kept, balance.check()
