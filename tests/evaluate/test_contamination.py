"""Prompts made near-duplicates on purpose, prompts that only share a form, and a real set that rewrites another."""

import os
import random
from pathlib import Path

import pytest

from reward_distiller.evaluate.contamination import contamination, text_of, words_of
from reward_distiller.files import read_rows
from reward_distiller.records import Message, Prompt

BROADWAY = "What are the names of some famous actors that started their careers on Broadway?"
STORY = " ".join(
    f"In chapter {at} the {who} of {where} writes to the {whom} about a missing {what}."
    for at, (who, where, whom, what) in enumerate(
        [
            ("baker", "Lyon", "judge", "recipe"),
            ("sailor", "Cadiz", "widow", "compass"),
            ("gardener", "Kyoto", "mayor", "bonsai"),
            ("pilot", "Nairobi", "surgeon", "logbook"),
            ("clerk", "Oslo", "tailor", "ledger"),
            ("painter", "Lima", "tutor", "palette"),
        ]
    )
)


def data(name: str) -> Path:
    """A file or folder of the real data; the test is skipped where it is not there."""
    path = Path(os.environ.get("REWARD_DISTILLER_DATA", "../shared/data")) / name
    if not path.exists():
        pytest.skip(f"{name} is not in $REWARD_DISTILLER_DATA")
    return path


def found(training, benchmark, **rest):
    result = contamination([(str(at), text) for at, text in enumerate(training)], [("b", benchmark)], **rest)
    return [(match.training, match.kind) for match in result.matches]


@pytest.mark.parametrize(
    "copy",
    [
        BROADWAY.upper(),
        "  what are the\nnames of\tsome famous actors,\u00a0that started their careers: on Broadway  ",
        BROADWAY.replace("fi", "\ufb01").replace("?", "\uff1f"),
    ],
)
def test_case_space_punctuation_and_unicode_form_count_for_nothing(copy):
    assert found(["Who wrote Faust?", copy], BROADWAY) == [("1", "exact")]


@pytest.mark.parametrize("change", [("famous", "notable"), ("Broadway", "television"), ("What are", "Give me")])
def test_one_changed_word_is_a_near_duplicate_of_a_short_prompt(change):
    assert found([BROADWAY.replace(*change)], BROADWAY) == [("0", "near")]


def test_a_few_changed_words_are_a_near_duplicate_of_a_long_prompt():
    assert len(words_of(STORY)) >= 64
    edited = STORY.replace("Kyoto", "Osaka").replace("compass", "sextant").replace("tutor", "uncle")
    assert found([edited, STORY + " Who found it?"], STORY) == [("0", "near"), ("1", "near")]
    assert found([" ".join(reversed(STORY.split()))], STORY) == []


def test_a_prompt_inside_a_longer_one_is_contained():
    result = contamination([("t", f"{BROADWAY} Give me a table with years and the roles they had.")], [("b", BROADWAY)])
    (match,) = result.matches
    assert match.contained == 1
    assert match.jaccard < 0.7


def test_prompts_of_one_form_are_no_duplicates():
    form = "Translate the following sentence into French: {}"
    texts = ["The cat has eaten all of my breakfast.", "Our train leaves at nine from platform four."]
    assert found([form.format(texts[0])], form.format(texts[1])) == []
    assert found(["What is the capital of Peru?"], "What is the boiling point of lead?") == []


def test_a_template_of_many_prompts_counts_for_nothing():
    form = (
        "You are a careful grader of short answers. Read the question, think about it step by step, then write only "
        "the letter of the option that you believe to be right and nothing else at all, please. Should two options "
        "seem equally good, choose the one that a school book would print; should none of them do, leave a blank line "
        "and say in one short sentence which fact is missing. Never explain your choice. Question: {}"
    )
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    questions = [" ".join("".join(rng.choices(letters, k=6)) for _ in range(12)) for _ in range(80)]
    prompts = [(str(at), form.format(question)) for at, question in enumerate(questions)]
    result = contamination(prompts[:40], prompts[40:])
    assert result.matches == []
    assert result.templates > 0
    one_word = questions[50].split()
    one_word[3] = "banana"
    copied = contamination([*prompts[:40], ("copy", form.format(" ".join(one_word)))], prompts[40:])
    assert [(match.training, match.benchmark) for match in copied.matches] == [("copy", "50")]
    unaware = contamination(prompts[:40], prompts[40:], template=1000)
    assert len(unaware.matches) > 100  # what the template alone would have made


def test_empty_and_short_prompts():
    result = contamination(
        [("e", ""), ("s", " \n"), ("h", "Hi!"), ("q", "???"), ("o", "ok")], [("b", "hi"), ("c", "??? "), ("e", "")]
    )
    assert [(match.training, match.benchmark, match.kind) for match in result.matches] == [
        ("h", "b", "exact"),
        ("q", "c", "exact"),
    ]
    assert result.empty == 3
    assert contamination([], []).counts()["exact"] == 0


def test_scripts_without_spaces_and_accents():
    chinese = "请写一篇关于春天的短文，要求语言优美，字数不少于三百字，并且包含三个比喻句。"
    assert found([chinese.replace("春天", "夏天"), "请介绍一下北京的历史和文化。"], chinese) == [("0", "near")]
    assert words_of("Cafe\u0301 CAFÉ") == ("café", "café")
    assert words_of("snake_case") == ("snake", "case")


def test_every_id_of_a_text_is_named_in_order_and_a_second_time_says_the_same():
    training = [("x", "Another question entirely."), ("t2", BROADWAY), ("t1", BROADWAY.lower())]
    benchmark = [("b2", BROADWAY), ("b1", BROADWAY.replace("famous", "notable"))]
    result = contamination(training, benchmark)
    assert [(m.training, m.benchmark, m.kind) for m in result.matches] == [
        ("t2", "b2", "exact"),
        ("t2", "b1", "near"),
        ("t1", "b2", "exact"),
        ("t1", "b1", "near"),
    ]
    assert (result.training_hit, result.benchmark_hit) == (2, 2)
    assert contamination(training, benchmark) == result
    with pytest.raises(ValueError, match="twice"):
        contamination([("a", "x"), ("a", "y")], [])


def test_the_text_of_a_prompt_is_what_the_user_says():
    turns = (("system", "Be brief."), ("user", "One?"), ("assistant", "1"), ("user", "Two?"))
    assert text_of(Prompt.of(tuple(Message(role=role, content=text) for role, text in turns))) == "One?\nTwo?"


def test_a_real_benchmark_made_from_another_is_found():
    seeds = [(str(at), row["question"]) for at, row in read_rows(data("gsm8k/test.jsonl"))]
    rewritten = [(str(at), row["question"]) for at, row in read_rows(data("gsm_plus/gsmplus_testmini.jsonl.gz"))]
    result = contamination(seeds, rewritten)
    assert result.training_hit == 300  # GSM-Plus testmini rewrites so many questions of GSM8K, each in eight ways
    assert result.benchmark_hit > 1400
    other = [
        (str(at), row["instruction"]) for at, row in read_rows(data("alpaca_eval/reference_gpt4_1106_preview.jsonl.gz"))
    ]
    assert contamination(seeds, other).matches == []
