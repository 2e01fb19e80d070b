"""Alignments by hand, and what the loss makes of them (the loss against separate forwards is in test_trainer.py)."""

import itertools
import random

import pytest
import tiny

from reward_distiller.model.alignment import aligned_places
from reward_distiller.model.batches import Reading, encode_pairs
from reward_distiller.records import Pair, Prompt

ALIGNED = Reading(("overall",), aligned=True)


def test_a_replaced_token_and_what_follows_it():
    assert aligned_places([1, 2, 9, 4, 5], [1, 2, 3, 4, 5]) == ((2, 2, 1.0), (3, 3, 1.0))


def test_two_edits_share_the_margin_by_their_tokens():
    chosen, rejected = [1, 8, 3, 9, 9, 9, 7], [1, 2, 3, 4, 5, 6, 7]
    assert aligned_places(chosen, rejected) == ((1, 1, 0.25), (2, 2, 0.25), (5, 5, 1.0))


def test_an_inserted_and_a_deleted_token_shift_what_follows():
    assert aligned_places([1, 9, 2, 3], [1, 2, 3]) == ((1, 0, 1.0), (2, 1, 1.0))
    assert aligned_places([1, 2, 3], [1, 9, 2, 3]) == ((0, 1, 1.0), (1, 2, 1.0))


@pytest.mark.parametrize(("chosen", "rejected"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 2, 4]), ([5, 1], [1])])
def test_where_nothing_is_aligned_before_the_ends_there_is_no_place(chosen, rejected):
    assert aligned_places(chosen, rejected) == ()


def test_places_hold_equal_tokens_or_the_ends_of_edits_in_order():
    rng = random.Random(0)
    for _ in range(200):
        rejected = [rng.randrange(5) for _ in range(rng.randrange(1, 30))]
        chosen = [rng.randrange(5) if rng.random() < 0.2 else t for t in rejected if rng.random() < 0.9] or [0]
        places = aligned_places(chosen, rejected)
        assert all(0 <= p.chosen < len(chosen) and 0 <= p.rejected < len(rejected) for p in places)
        assert [p.share for p in places] == sorted(p.share for p in places)
        assert all(0 < p.share <= 1 for p in places)
        for earlier, later in itertools.pairwise(places):
            assert earlier.chosen <= later.chosen
            assert earlier.rejected <= later.rejected


def pair(chosen: str, rejected: str, source: str) -> Pair:
    return Pair.of(Prompt.from_text("name two"), chosen, rejected, source, chosen_score=8.0, rejected_score=2.0)


def test_only_edits_of_the_rejected_response_are_aligned():
    edit = ("plum and fig and more", "plum and hat and more")
    chat = tiny.chat()
    encoded, _ = encode_pairs([pair(*edit, source) for source in ("refined", "sampled")], chat, 500, ALIGNED)
    assert [bool(e.places) for e in encoded] == [True, False]
    other, _ = encode_pairs([pair("plum and fig and more", "boots !", "refined")], chat, 500, ALIGNED)
    assert not other[0].places
    off, _ = encode_pairs([pair(*edit, "refined")], chat, 500, Reading(("overall",)))
    assert not off[0].places


def test_places_lie_behind_the_first_edit_and_before_the_end():
    chat = tiny.chat()
    (encoded,), _ = encode_pairs([pair("plum and fig", "plum and hat", "refined")], chat, 500, ALIGNED)
    first = next(i for i, (a, b) in enumerate(zip(encoded.chosen.ids, encoded.rejected.ids)) if a != b)
    assert min(p.chosen for p in encoded.places) >= first
    assert max(p.chosen for p in encoded.places) == len(encoded.chosen) - 2
