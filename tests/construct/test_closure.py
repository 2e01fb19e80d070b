"""Closed pairs: the third side of a sampled and a refined pair, with the difference of their margins."""

from __future__ import annotations

from helpers import labeled

from reward_distiller.construct.closure import close_triangles
from reward_distiller.records import Pair


def refined_of(origin: Pair, text: str, margin: float, anchor: float | None = None) -> Pair:
    score = origin.rejected_score if anchor is None else anchor
    assert score is not None
    return Pair.of(
        origin.prompt,
        text,
        origin.rejected,
        "refined",
        chosen_score=score + margin,
        rejected_score=score,
        provenance={"refined_from": origin.id},
    )


def test_the_better_of_the_two_is_chosen() -> None:
    origins = [labeled(f"p{i}", "chosen", "rejected", (6.0, 2.0), teacher_response="best") for i in range(3)]
    refined = [refined_of(o, "mended", margin) for o, margin in zip(origins, (7.0, 1.0, 4.0), strict=True)]
    closed, balance = close_triangles(origins, refined)
    assert [(p.chosen, p.rejected, p.chosen_score, p.rejected_score) for p in closed] == [
        ("mended", "chosen", 9.0, 6.0),
        ("chosen", "mended", 6.0, 3.0),
    ]
    assert {(p.source, p.teacher_response) for p in closed} == {("closed", "best")}
    assert [p.provenance["refined_from"] for p in closed] == [o.id for o in origins[:2]]
    assert balance.counts == {"kept": 2, "tied": 1}


def test_scores_are_on_the_sampled_pair_s_scale() -> None:
    """Pairwise scoring gives the rejected response a second score; only the margin is taken from there."""
    origin = labeled("p", "chosen", "rejected", (6.0, 2.0))
    (pair,), _ = close_triangles([origin], [refined_of(origin, "mended", 5.0, anchor=4.0)])
    assert (pair.chosen_score, pair.rejected_score) == (7.0, 6.0)


def test_what_makes_no_pair_is_counted() -> None:
    first, second = (labeled("p", chosen, "rejected", (6.0, 2.0)) for chosen in ("mended", "other"))
    twin = labeled("p", "other", "rejected two", (6.0, 2.0))
    refined = [refined_of(first, "mended", 4.0), refined_of(second, "mended", 6.0), refined_of(twin, "mended", 6.0)]
    closed, balance = close_triangles([first, second, twin], refined)
    assert len(closed) == 1
    assert balance.reasons["dropped"] == {"the refined response is the chosen one": 1, "duplicate closed pair": 1}
