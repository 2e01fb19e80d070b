"""FollowBench's rules: each check on both sides of its edge, and the oddities that the benchmark's scripts have."""

import pytest

from reward_distiller.evaluate.policy import follow_bench_rules as rules


def highest(category, group, source, response, target=""):
    """The highest level from 1 on up to which all levels are satisfied."""
    count = 0
    while count < 5 and rules.satisfied(category, group, source, count + 1, target, response):
        count += 1
    return count


NEWS = "Potter star is rich. The actor saves it. His films have paid well."


@pytest.mark.parametrize(
    ("source", "response", "level"),
    [
        ("cnn_dailymail", NEWS, 5),
        ("cnn_dailymail", NEWS.replace("have paid", "paid"), 4),
        ("cnn_dailymail", NEWS.replace("saves", "saves lavish"), 3),
        ("cnn_dailymail", NEWS.replace("Potter", "Potters"), 2),
        ("cnn_dailymail", NEWS.replace("rich", "a b c d e f g h i j k l m"), 1),
        ("cnn_dailymail", NEWS + " Fin.", 0),
        ("cnn_dailymail", NEWS.replace("rich", "3.5 rich"), 0),  # a full stop ends a sentence wherever it stands
        ("cnn_dailymail", "", 0),
        ("xsum", "A rescue operation is going on in Scotland.", 5),
        ("xsum", "A rescue is going on in Scotland.", 4),
        ("xsum", "A rescue operation goes on in Scotland.", 3),
        ("xsum", "A rescue operation is going on in Newton Stewart.", 2),
        ("xsum", "is doing operation " + "word " * 17 + "end.", 1),
        ("xsum", "One. Two.", 0),
        ("samsum", "They will do stuff together.", 5),
        ("samsum", "They will do stuff, together.", 4),
        ("samsum", "They will do stuff and no Procrastination.", 3),
        ("samsum", "They will do things together.", 2),
        ("samsum", "stuff " * 14 + "end.", 1),
        ("gigaword", "seven people hurt in a crash on monday", 5),
        ("gigaword", "seven people hurt by a crash on monday", 4),
        ("gigaword", "seven people hurt in bus crash on monday", 3),
        ("gigaword", "Seven people hurt in a crash on monday", 2),
        ("gigaword", "seven people hurt in a crash on monday.", 1),
        ("gigaword", "seven people hurt in a crash on  monday", 0),  # a second space makes a word
        ("arxiv", "We edit activations.", 5),
        ("arxiv", "We edit activations of a transformer.", 4),
        ("arxiv", "We edit weights.", 3),
        ("arxiv", "Here we edit activations.", 2),
        ("arxiv", "We " + "edit " * 19 + "activations.", 1),
    ],
)
def test_what_each_level_adds(source, response, level):
    assert highest("mixed", 1, source, response) == level


@pytest.mark.parametrize(
    ("source", "target", "response", "met"),
    [
        ("E2E", "name[A], near[B]", "name[A], near[B]", True),
        ("E2E", "name[A], near[B]", "name[A], near[B].", False),
        ("text_editing", "pples", "apples", False),
        ("WIKIEVENTS", "a\nb\nc", "c\na", True),
        ("WIKIEVENTS", "a\nb\nc", "c\n\na", False),
        ("CONLL2003", "['Bonn', 'Paris']", "Paris", True),
        ("CONLL2003", "['Bonn', 'Paris']", "Bonn, Paris", False),
        ("CONLL2003", "['Bonn', 'Paris']", "Pari", False),
        ("BBH_logical", "(B)", "not (A) but (B), so B.", True),
        ("BBH_logical", "(B)", "(B), not (A)", False),
        ("BBH_logical", "(B)", "B", False),
        ("BBH_time", "12/29/1937", "five days: 12/24/1937, then 12/29/1937.", True),
        ("BBH_time", "12/29/1937", "29/12/1937", False),
        ("gsm_8k", "$14", "$12 an hour makes $14.00", True),
        ("gsm_8k", "$14", "$140", False),
        ("gsm_8k", "$14", "14", False),
        ("self_made_space", "20th floor", "the 120th floor", True),
        ("self_made_space", "20th floor", "floor 20", False),
    ],
)
def test_targets(source, target, response, met):
    assert rules.satisfied("situation", 1, source, 3, target, response) == met


SENTENCE = "word " * 20 + "and more"


def test_format_group_22():
    paragraph = f"1.{SENTENCE}"
    three = "\n\n".join([SENTENCE] * 3)
    assert highest("format", 22, "helpful_base", three + ".") == 3
    assert highest("format", 22, "helpful_base", three.replace("word", "a. b", 1)) == 2
    assert highest("format", 22, "helpful_base", f"a. b. c.\n\n{SENTENCE}\n\n{SENTENCE}") == 1
    assert highest("format", 22, "helpful_base", SENTENCE) == 0
    # A paragraph's number is a sentence of one word, so levels 4 and 5 hold for no response.
    assert highest("format", 22, "helpful_base", "\n\n".join([paragraph] * 3)) == 2
    closing = f"{three}\n\n{SENTENCE}: {rules.CLOSING}"
    assert not rules.satisfied("format", 22, "helpful_base", 5, "", closing)


def test_format_group_30():
    speech = "**1 a:** b **2 c:** d **3 e:** f **4 g:** h"  # 12 words, and one keyword is missing
    five = f"{speech} **5 i:**"  # 14 words
    for response, level in (
        ("none", 0),
        ("**", 1),
        (speech, 1),
        (five, 5),
        (f"{five} and then some", 3),  # 17 words
        (f"{five} -ly", 4),
        (f"{five} quickly", 5),  # the suffix counts only behind a hyphen
        (f"{five} 1.b.", 2),  # a point with two full stops
        (f"{five}. Short.", 3),
        (f"{five}? Short", 3),
        (f"{five} Mr. Short", 3),  # one sentence of 16 words
        (f"{speech} **5i: Mr. Short", 5),  # one of 15: no sentence ends behind Mr.
        (f"{speech} **5i: a.b. Short", 5),
        (f"{speech} **5i: no. Short", 3),
    ):
        assert highest("format", 30, "koala", response) == level, response


@pytest.mark.parametrize(
    ("target", "response", "met"),
    [
        ("{instruction}\nAnswer: {answer}", "Answer: all of it", True),
        ("{instruction}\nAnswer: {answer}", "Answer: ", True),
        ("{instruction}\nAnswer: {answer}", "answer: all", False),
        ("{instruction}\nAnswer: {answer}", "Answer: one\ntwo", False),
        ("{instruction}\nAnswer: {answer}", "Answer: one\n", False),
        ("{instruction}\n{{'Bot': '{answer}'}}", "{'Bot': 'it's'}", True),
        ("{instruction}\n{{'Bot': '{answer}'}}", "{{'Bot': 'it'}}", False),
        ("{instruction}\n[Bot]\n{answer}", "[Bot]\nx", True),
        ("{instruction}\n[Bot]\n{answer}", "B\nx", False),
    ],
)
def test_examples_show_a_form(target, response, met):
    assert rules.satisfied("example", 1, "xsum", 1, target, response) == met


def test_who_decides():
    assert rules.decided("format", 22, "helpful_base")
    assert not rules.decided("style", 22, "helpful_base")
    assert not rules.decided("format", 21, "helpful_base")
    with pytest.raises(ValueError, match="no rule decides group 21 of format"):
        rules.satisfied("format", 21, "helpful_base", 1, "", "x")
