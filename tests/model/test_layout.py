"""Forests hold each distinct token once, and every sequence can be read back from them."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reward_distiller.model.layout import cut_forests, cut_rows, distinct_tokens, forest, padded

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(tuple), min_size=1, max_size=8)


def read(layout, sequence):
    slots = layout.slots_of(sequence)
    ids, positions = (x.expand(layout.ids_RL.shape).flatten()[slots] for x in (layout.ids_RL, layout.positions_RL))
    return tuple(ids.tolist()), positions.tolist()


@given(SEQUENCES)
@settings(max_examples=200, deadline=None)
def test_every_sequence_is_there_and_every_distinct_prefix_once(sequences):
    prefixes = {s[:n] for s in sequences for n in range(1, len(s) + 1)}
    layout = forest(sequences)
    assert layout.ids_RL.shape == (1, len(prefixes)) == (1, distinct_tokens(sequences))
    for at, sequence in enumerate(sequences):
        assert read(layout, at) == (sequence, list(range(len(sequence))))
        assert layout.ends()[at] == layout.slots_of(at)[-1]


@given(SEQUENCES)
@settings(max_examples=200, deadline=None)
def test_a_slot_sees_its_path_and_nothing_else(sequences):
    layout = forest(sequences)
    ends = layout.forest.subtree_ends()
    for at in range(len(sequences)):
        slots = layout.slots_of(at).tolist()
        for n, query in enumerate(slots):
            seen = [k for k in range(len(ends)) if k <= query < ends[k]]
            assert seen == slots[: n + 1]


@given(SEQUENCES)
@settings(max_examples=50, deadline=None)
def test_the_order_of_the_sequences_changes_nothing_but_their_places(sequences):
    one, other = forest(sequences), forest(sequences[::-1])
    assert torch.equal(one.ids_RL, other.ids_RL)
    assert one.pieces == other.pieces[::-1]


@given(SEQUENCES)
@settings(max_examples=100, deadline=None)
def test_padded_rows_hold_the_same(sequences):
    layout = padded(sequences, 7)
    for at, sequence in enumerate(sequences):
        assert read(layout, at) == (sequence, list(range(len(sequence))))
    assert int(layout.mask_RL.sum()) == sum(map(len, sequences))


@given(SEQUENCES, st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_cuts_hold_every_sequence_once_and_keep_the_budget(sequences, budget):
    for cut, slots in (
        (cut_forests, lambda part: distinct_tokens([sequences[i] for i in part])),
        (cut_rows, lambda part: len(part) * max(len(sequences[i]) for i in part)),
    ):
        parts = cut(sequences, budget)
        assert sorted(i for part in parts for i in part) == list(range(len(sequences)))
        assert all(len(part) == 1 or slots(part) <= budget for part in parts)


def test_a_thousand_sequences_each_a_prefix_of_the_next_are_no_trouble():
    line = tuple(range(1500))
    layout = forest([line[: n + 1] for n in range(1500)])
    assert layout.ids_RL.shape == (1, 1500)
    assert len(layout.forest.segments) == 1500


def test_nothing_to_lay_out_makes_no_batches():
    assert cut_forests([], 10) == cut_rows([], 10) == []
