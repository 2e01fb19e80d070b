"""The bench's data profiles and its counting; real data where it is at hand. `bench` is a folder beside `src`."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from bench.counting import Shape, Work, distinct, separate
from bench.profiles import (
    PROMPT_TOKENS,
    TOLERANCE,
    WORD,
    best_of_16,
    conversation,
    lengthen,
    load,
    refine,
    rm_bench_rows,
)
from bench.report import interval
from reward_distiller.files import read_rows
from reward_distiller.records import Pair, Prompt

DATA = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data"))
needs_data = pytest.mark.skipif(
    not (DATA / "hh_rlhf").is_dir(), reason=f"{DATA} is not here; set REWARD_DISTILLER_DATA to the data folder"
)


def words(prompt: Prompt) -> int:
    """Stands for the tokenizer: words, and 4 for each turn's frame."""
    return sum(len(m.content.split()) + 4 for m in prompt.messages)


def make_pair(rejected: str) -> Pair:
    return Pair.of(Prompt.from_text("Ask"), "good", rejected, "sampled", chosen_score=8.0, rejected_score=3.0)


def test_a_refined_response_shares_everything_around_one_word() -> None:
    before = "one two three four five six seven eight"
    edited = set()
    for seed in range(40):
        refined = refine(make_pair(before), seed)
        assert refined is not None
        assert refined.rejected == before
        assert refined.source == "refined"
        assert refined.margin == 4.0
        old, new = before.split(), refined.chosen.split()
        changed = [at for at in range(8) if old[at] != new[at]]
        assert len(changed) == 1
        edited.update(changed)
    assert edited == set(range(8))  # uniform: no word is never edited
    assert refine(make_pair("same same"), 0) is None


def test_conversations_that_do_not_alternate_are_left_out() -> None:
    prompt = conversation("\n\nHuman: a\n\nAssistant: b\n\nHuman: c")
    assert prompt is not None
    assert [m.role for m in prompt.messages] == ["user", "assistant", "user"]
    assert conversation("\n\nHuman: a\n\nHuman: c") is None
    assert conversation("\n\nHuman: a\n\nAssistant: \n\nHuman: c") is None
    assert conversation("said before\n\nHuman: a") is None


def test_prompts_are_lengthened_to_the_wanted_tokens() -> None:
    turns = "\n\nHuman: " + "u " * 60 + "\n\nAssistant: " + "a " * 60 + "\n\nHuman: more"
    history = conversation(turns)
    assert history is not None
    pairs = [Pair.of(history, "w " * n, "l", "labeled", chosen_score=None, rejected_score=None) for n in (30, 90, 150)]
    for length in (5, 200, 480, PROMPT_TOKENS):
        prompt = lengthen(Prompt.from_text("x " * length), pairs * 5, words)
        assert prompt is not None
        assert abs(words(prompt) - PROMPT_TOKENS) <= TOLERANCE
        assert prompt.messages[-1].content == "x " * length
        assert all(a.role != b.role for a, b in pairwise(prompt.messages))
    assert lengthen(Prompt.from_text("x " * 600), pairs, words) is None


def test_counting_agrees_with_a_set_of_prefixes() -> None:
    sequences = [(1, 2, 3), (1, 2, 4, 5), (1, 2, 3), (6,), (1, 2, 3, 7)]
    prefixes = {s[:n] for s in sequences for n in range(1, len(s) + 1)}
    assert distinct(sequences, 9) == Work(len(prefixes), sum(map(len, prefixes)), 9)
    assert separate(sequences) == Work(15, 6 + 10 + 6 + 1 + 10, 0)
    shape = Shape(parameters=10, layers=2, hidden=3, vocabulary=5)
    assert shape.flops(Work(7, 11, 2)) == 6 * 10 * 7 + 12 * 2 * 3 * 11 + 6 * 5 * 3 * 2
    assert shape.flops(Work(7, 11, 0), training=False) == shape.flops(Work(7, 11, 0)) / 3


def test_the_interval_holds_the_median() -> None:
    low, high = interval([1.0, 1.1, 1.2, 1.3, 9.0])
    assert 1.0 <= low <= 1.2 <= high <= 9.0


@needs_data
def test_real_profiles() -> None:
    hh = load("hh_rlhf", DATA, 0, words)
    assert len(hh.pairs) + sum(hh.left_out.values()) == 1156
    assert all(pair.prompt.messages[-1].role == "user" for pair in hh.pairs)
    for name in ("alpaca_eval", "rm_bench", "paper"):
        profile = load(name, DATA, 0, words)
        assert [p.id for p in load(name, DATA, 0, words).pairs] == [p.id for p in profile.pairs]
        sampled = {p.prompt.id: p for p in profile.pairs if p.source == "sampled"}
        refined = [p for p in profile.pairs if p.source == "refined"]
        assert len(sampled) > 300
        assert len(sampled) == len(refined)
        for pair in refined:
            first = sampled[pair.prompt.id]
            assert (pair.rejected, pair.teacher_response) == (first.rejected, first.teacher_response)
            assert len(WORD.findall(pair.chosen)) == len(WORD.findall(pair.rejected))
    long = load("prompt_500", DATA, 0, words, 200)
    assert len(long.pairs) > 300
    assert all(abs(words(pair.prompt) - PROMPT_TOKENS) <= TOLERANCE for pair in long.pairs)
    rows = list(best_of_16(DATA, 0))
    assert {len(responses) for _, responses in rows} == {16}


@needs_data
def test_any_stretch_of_rm_bench_has_its_files_in_proportion() -> None:
    rows = list(rm_bench_rows(DATA, 0))
    assert rows == list(rm_bench_rows(DATA, 0))
    assert rows != list(rm_bench_rows(DATA, 1))
    assert {len(responses) for _, responses in rows} == {6}
    code = {row["prompt"] for _, row in read_rows(DATA / "rm_bench/code_filtered.json")}
    is_code = [prompt.messages[-1].content in code for prompt, _ in rows]
    share = sum(is_code) / len(rows)
    for start in range(0, len(rows) - 50, 50):
        assert abs(sum(is_code[start : start + 50]) / 50 - share) <= 0.03
