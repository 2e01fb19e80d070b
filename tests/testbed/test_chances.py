"""Log-probabilities of the scripted teacher's tokens: its own noise, whatever the form of its answer."""

from __future__ import annotations

import json
import math
import random
import statistics

import pytest
from helpers import scoring_question

from reward_distiller.construct.attributes import attribute_question
from reward_distiller.records import Prompt
from reward_distiller.teacher.judging import FORMATS
from reward_distiller.teacher.prompts import Templates
from reward_distiller.testbed.chances import END, Grade, Preference, log_probabilities
from reward_distiller.testbed.language import World
from reward_distiller.testbed.models import reply

WORLD, TEMPLATES = World(0), Templates()
TEXT = WORLD.prompts(1, 0, "train")[0]
TASK = WORLD.read(TEXT)
RIGHT = WORLD.right_items(TASK, random.Random(0))
WRONG = [WORLD.wrong_item(TASK, RIGHT, 0, random.Random(0)), *RIGHT[1:]]
GOOD, BAD = (WORLD.respond(TASK, items, "concise", random.Random(0)) for items in (RIGHT, WRONG))
PAIR = scoring_question(Prompt.from_text(TEXT), GOOD, BAD).messages


def judge(form: str, *responses: str, reasoning: bool = False):
    return FORMATS[form].question("q", Prompt.from_text(TEXT), responses, TEMPLATES, reasoning).messages


def ask(messages, sample: int = 0, top: int | None = 20, testbed=None, **fields):
    """(text, entries of the log-probabilities, None without)."""
    request = {"model": "teacher", "messages": messages, "sample": sample, **fields}
    request["testbed"] = {"garble": 0.0, "noise": 1.5, **(testbed or {})}
    if top is not None:
        request |= {"logprobs": True, "top_logprobs": top}
    [choice] = json.loads(reply(request))["choices"]
    return choice["message"]["content"], (choice.get("logprobs") or {}).get("content")


def chances(entry) -> dict[str, float]:
    return {t["token"]: math.exp(t["logprob"]) for t in entry["top_logprobs"]}


def drawn(entries) -> list[dict[str, float]]:
    return [chances(entry) for entry in entries if len(entry["top_logprobs"]) > 1]


@pytest.mark.parametrize(("points", "deviation"), [(5.2, 1.5), (9.9, 0.8), (1.0, 3.0), (4.5, 0.3), (7.0, 0.0)])
def test_a_grades_chances_are_the_shares_of_many_draws(points, deviation):
    rng, many = random.Random(0), 20_000
    seen = [max(1, min(10, round(points + rng.gauss(0, deviation)))) for _ in range(many)]
    found = Grade(points, deviation).chances()
    assert sum(found.values()) == pytest.approx(1)
    for grade in range(1, 11):
        assert found.get(str(grade), 0.0) == pytest.approx(seen.count(grade) / many, abs=0.015)


@pytest.mark.parametrize("deviation", [0.0, 1e-9, 1e9])
def test_noise_of_any_size_has_chances(deviation):
    found = Grade(6.0, deviation).chances()
    assert sum(found.values()) == pytest.approx(1)
    assert all(0 < chance <= 1 for chance in found.values())


def test_the_expected_score_is_the_mean_of_what_is_sampled():
    """One question asked a thousand times: the sampled grades scatter around what each answer's chances expect."""
    messages, sampled, expected = judge("pointwise", BAD), [], []
    for sample in range(1000):
        text, entries = ask(messages, sample)
        [grades] = drawn(entries)
        sampled.append(int(text))
        expected.append(sum(int(grade) * chance for grade, chance in grades.items()))
    assert statistics.pstdev(expected) < 1e-9
    assert statistics.pstdev(sampled) > 0.8
    assert statistics.mean(sampled) == pytest.approx(expected[0], abs=0.15)


@pytest.mark.parametrize(("form", "words"), [("pairwise_ranking", {"A", "B", "tie"}), ("gram", {"A", "B"})])
def test_a_letters_chances_are_how_often_it_is_said(form, words):
    """Averaged over the teacher's other draws: at times it sees no difference between the two."""
    answers = [ask(judge(form, BAD, GOOD), sample) for sample in range(1500)]
    expected = [chances(entries[0]) for _, entries in answers]
    assert set().union(*expected) == words
    for word in words:
        share = sum(text == word for text, _ in answers) / len(answers)
        assert statistics.mean(e.get(word, 0.0) for e in expected) == pytest.approx(share, abs=0.05)
        assert all(sum(e.values()) == pytest.approx(1) for e in expected)


def test_the_tokens_are_the_text_and_the_form_changes_no_answer():
    attributes = attribute_question("q", Prompt.from_text(TEXT), BAD, ("depth", "truth"), TEMPLATES).messages
    prompts = {"pair": PAIR, "attributes": attributes, "free": [{"role": "user", "content": TEXT}]}
    for form, its in FORMATS.items():
        shown = (GOOD, BAD)[: its.shown]
        prompts[form] = judge(form, *shown)
        prompts |= {f"{form}, reasoned": judge(form, *shown, reasoning=True)} if its.may_reason else {}
    counts = {"attributes": 2, "free": 0, "pairwise_ranking": 1, "pointwise": 1, "gram": 1, "pointwise, reasoned": 1}
    for name, messages in prompts.items():
        for sample in range(20):
            plain, nothing = ask(messages, sample, top=None)
            assert nothing is None
            for split in (0, 1):
                text, entries = ask(messages, sample, testbed={"split_ten": split})
                assert text == plain
                assert "".join(entry["token"] for entry in entries) == text
                for entry in entries:
                    assert bytes(entry["bytes"]).decode() == entry["token"]
                    assert entry["logprob"] <= 0
                    assert entry["token"] in chances(entry)
            if sample == 0:
                assert len(drawn(ask(messages, sample)[1])) == counts.get(name, 2), name


def test_as_many_alternatives_as_asked_for_likeliest_first():
    for top in (0, 1, 3, 20):
        _, entries = ask(PAIR, top=top)
        listed = [t["logprob"] for t in entries[0]["top_logprobs"]]
        assert listed == sorted(listed, reverse=True)
        assert len(listed) == min(top, len(chances(ask(PAIR, top=20)[1][0])))


def test_ten_as_two_tokens_has_the_chances_of_ten_as_one():
    tens = ones = 0
    for sample in range(300):
        low = judge("pairwise_scores", "plum plum", GOOD)  # a 1 or so, and a 10 or so
        text, whole = ask(low, sample, testbed={"noise": 4.0})
        _, split = ask(low, sample, testbed={"noise": 4.0, "split_ten": 1})
        first = {grade: chance for grade, chance in chances(whole[0]).items() if grade != "10"}
        first["1"] += chances(whole[0])["10"]
        assert chances(split[0]) == pytest.approx(first)
        ten = chances(whole[0])["10"]
        if text.startswith("10 "):
            tens += 1
            assert [entry["token"] for entry in split[:3]] == ["1", "0", " "]
            assert math.exp(split[0]["logprob"] + split[1]["logprob"]) == pytest.approx(ten)
            assert set(chances(split[1])) == {"0", " "}
        elif text.startswith("1 "):
            ones += 1
            assert chances(split[0])["1"] * chances(split[1])["0"] == pytest.approx(ten)
            assert math.exp(split[1]["logprob"]) < 1
        if text.endswith(" 10"):
            assert split[-1]["token"] == "0"
            assert END in chances(split[-1]) or split[-1]["logprob"] == 0
    assert tens > 5
    assert ones > 5


def test_a_digit_in_a_name_is_no_grade():
    text = '{"score_7": 7, "x": "8"}'
    content = log_probabilities(text, [Grade(7, 1), Grade(8, 1)], 20)["content"]
    assert "".join(entry["token"] for entry in content) == text
    graded = [n for n, entry in enumerate(content) if len(entry["top_logprobs"]) > 1]
    assert [content[n]["token"] for n in graded] == ["7", "8"]
    assert content[graded[0] - 1]["token"] == " "


def test_without_noise_and_in_a_garbled_answer_all_is_certain():
    for testbed in ({"noise": 0.0}, {"garble": 1.0}):
        _, entries = ask(PAIR, testbed=testbed)
        assert drawn(entries) == []
        assert all(entry["logprob"] == 0 for entry in entries)


def test_a_coin_decides_only_where_a_tie_cannot_be_said():
    same = (Grade(5, 1), Grade(5, 1))
    tie = Preference(*same, ("A", "B", "tie")).chances()
    assert tie["A"] == pytest.approx(tie["B"])
    assert tie["tie"] > 0.2
    coin = Preference(*same, ("A", "B", None)).chances()
    assert coin == pytest.approx({"A": 0.5, "B": 0.5})
