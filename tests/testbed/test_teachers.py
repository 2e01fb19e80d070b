"""The scripted teachers: they answer the real prompts through the real parsers, and err as far as they are meant to.

And the testbed's labeled rows, whose labels are the ground truth.
"""

from __future__ import annotations

import random
import re

import pytest
from helpers import scoring_question

from reward_distiller.config import ChatModel
from reward_distiller.config import TestbedData as WorldRows  # pytest would collect a class called Test...
from reward_distiller.config import World as WorldSettings
from reward_distiller.construct.attributes import attribute_question
from reward_distiller.construct.critique import critique_question
from reward_distiller.construct.load import load_pairs
from reward_distiller.construct.rewrite import Change, rewriting_question
from reward_distiller.errors import ConfigError
from reward_distiller.records import Prompt, content_id
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Question, Unparsable
from reward_distiller.testbed.language import STYLES, World
from reward_distiller.testbed.minds import TEACHERS, Teacher
from reward_distiller.testbed.models import reply
from reward_distiller.testbed.parts import TestbedParts as Parts
from reward_distiller.testbed.student import build_tokenizer

WORLD, TEMPLATES = World(0), Templates()


def ask(name: str, *turns: str, sample: int = 0, **options: float) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(turns)]
    return read_completion(reply({"model": name, "messages": messages, "sample": sample, "testbed": options})).text


def attempts(count: int, seed: int = 0):
    """(prompt, response, places of the wrong items), in all styles and with any number of wrong items."""
    rng = random.Random(seed)
    for prompt in WORLD.prompts(count, seed, "train"):
        task = WORLD.read(prompt)
        items = WORLD.right_items(task, rng)
        wrong = sorted(rng.sample(range(len(items)), rng.randint(0, len(items))))
        for at in wrong:
            items[at] = WORLD.wrong_item(task, items, at, rng)
        yield prompt, WORLD.respond(task, items, rng.choice(STYLES), rng), wrong


def test_what_the_first_teacher_was_asked_before_it_answers_as_before():
    """Its answers to the prompts of appendix D.1 to D.3 and to plain questions are the ones of the first release."""
    answers = []
    for number, (text, response, _) in enumerate(attempts(50)):
        prompt = Prompt.from_text(text)
        options = {"seed": 0, "garble": 0.05, "noise": 0.5 + number / 50}
        own = ask("teacher", text, **options)
        scoring, _ = TEMPLATES.render("pairwise_scores", prompt, response_1=response, response_2=own)
        editing, _ = TEMPLATES.render("refinement", prompt, preferred=own, rejected=response)
        edited = ask("teacher", editing, **options)
        last, _ = TEMPLATES.render("calibrated_score", prompt, anchor="2.5")
        answers += [own, ask("teacher", scoring, **options), edited, ask("teacher", editing, edited, last, **options)]
    assert (len(answers), content_id(answers)) == (200, "fcea8a34d4de5352")


def answer(question: Question, name: str = "teacher", **options: float):
    """A parsed answer, where none is garbled."""
    (message,) = question.messages
    return question.parse(ask(name, message["content"], **{"garble": 0.0, **options}))


def misled(name: str, prompt: str) -> bool:
    """Whether that teacher believes in a wrong item."""
    return Teacher(WORLD, 0, 0, 0, TEACHERS[name]).belief(prompt, WORLD.read(prompt)) is not None


# -- critiques ------------------------------------------------------------------------------------------


def critique(prompt: str, response: str, name: str = "teacher", **options: float) -> str:
    return answer(critique_question("q", Prompt.from_text(prompt), response, TEMPLATES), name, **options)


def named(text: str) -> list[tuple[str, str]]:
    """(item, what it should be)."""
    return re.findall(r"(\S+) should be (\S+)", text)


@pytest.mark.parametrize("name", TEACHERS)
def test_critiques_are_mostly_right_and_miss_some(name):
    said = hits = wrong_items = mended = 0
    for prompt, response, wrong in attempts(200):
        if misled(name, prompt):
            continue
        text, task, items = critique(prompt, response, name), WORLD.read(prompt), WORLD.items(response)
        faults = named(text)
        assert bool(faults) != ("nothing is wrong" in text)
        said += len(faults)
        wrong_items += len(wrong)
        for item, right in faults:
            at = next((at for at in wrong if items[at] == item), None)
            if at is not None:
                hits += 1
                mended += WORLD.judge_items(task, [right if n == at else w for n, w in enumerate(items)])[at]
    assert wrong_items > 200
    assert 0.9 < hits / said < 1
    assert 0.6 < hits / wrong_items < 0.8
    assert mended > 0.97 * hits


def test_a_critique_is_some_words_that_the_student_knows():
    tokenizer = build_tokenizer(WORLD)
    words = set()
    cut, grown = ((p, r, w) for p, r, w in attempts(20)), ((p, r, w) for p, r, w in attempts(20))
    responses = [(prompt, response) for prompt, response, _ in attempts(400)]
    responses += [(prompt, " ".join(response.split()[1:3])) for prompt, response, _ in cut]
    responses += [(prompt, f"{response} plum plum") for prompt, response, _ in grown]
    for prompt, response in responses:
        text = critique(prompt, response)
        assert 8 <= len(text.split()) <= 25
        words.update(text.split())
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    assert {"parts", "many", "wonderful", "short", "clear"} <= words
    assert tokenizer.unk_token_id not in tokenizer(critique("no prompt of this world", "plum"))["input_ids"]


def test_length_is_flattered_as_far_as_the_teacher_is_biased():
    def flattered(styles, **options) -> float:
        texts = [
            critique(prompt, response, **options)
            for prompt, response, _ in attempts(200)
            if ("*" in response) in styles
        ]
        return sum(text.startswith(("what a wonderful", "a great")) for text in texts) / len(texts)

    assert flattered((True,)) > flattered((False,)) + 0.2
    assert flattered((True, False), verbosity_bias=0.0) == 0


# -- attributes -------------------------------------------------------------------------------------------


def test_attributes_are_graded_by_what_their_names_say():
    names = ("correctness", "verbosity", "helpfulness")
    for prompt, response, _ in attempts(60):
        asked = attribute_question("q", Prompt.from_text(prompt), response, names, TEMPLATES)
        quality = 1 + 9 * WORLD.quality(prompt, response)
        wordy = min(1, WORLD.excess_words(prompt, response) / 15)
        scores = answer(asked, noise=0.0, verbosity_bias=2.0)
        assert list(scores) == list(names)
        assert scores["correctness"] == round(quality)
        assert scores["verbosity"] == round(1 + 9 * wordy)
        assert scores["helpfulness"] == min(10, round(quality + 2 * wordy))
        assert 1 <= min(answer(asked, noise=5.0).values()) <= 10


# -- rewriting ----------------------------------------------------------------------------------------------


def rewriting(prompt: str, response: str, direction) -> str:
    change = Change(direction, ("honesty", "safety"))
    return answer(rewriting_question(Prompt.from_text(prompt), response, change, TEMPLATES))


def test_worse_is_worse_and_better_has_nothing_wrong_and_more_words():
    quality, words, unchanged, restyled = [], [], 0, 0
    for prompt in WORLD.prompts(200, 2, "train"):
        own = ask("teacher", prompt)
        worse, better = rewriting(prompt, own, "worse"), rewriting(prompt, own, "better")
        assert WORLD.quality(prompt, own) == WORLD.quality(prompt, better) == 1
        quality.append(WORLD.quality(prompt, worse))
        words.append(WORLD.excess_words(prompt, better) - WORLD.excess_words(prompt, own))
        unchanged += better == own
        restyled += WORLD.style(worse) != WORLD.style(own)
    assert max(quality) < 1
    assert 0.2 < sum(quality) / 200 < 0.6
    assert sum(words) / 200 > 2
    assert 0.1 < unchanged / 200 < 0.3
    assert 0.2 < restyled / 200 < 0.45


def test_text_of_no_world_is_left_as_it_is():
    for direction in ("better", "worse"):
        assert rewriting("no prompt of this world", "plum", direction) == "plum"


# -- all jobs -----------------------------------------------------------------------------------------------


def questions(prompt: str, response: str) -> list[Question]:
    subject = Prompt.from_text(prompt)
    return [
        scoring_question(subject, response, "plum ."),
        critique_question("q", subject, response, TEMPLATES),
        attribute_question("q", subject, response, ("depth",), TEMPLATES),
        rewriting_question(subject, response, Change("worse", ("depth",)), TEMPLATES),
    ]


def test_a_garbled_answer_is_one_that_no_parser_takes():
    for prompt, response, _ in attempts(5):
        for question in questions(prompt, response):
            with pytest.raises(Unparsable):
                answer(question, garble=1.0)


def test_hostile_text_gets_an_answer_in_its_form():
    for text in ("", "\n" * 50, "<reviewed_response>\nplum\n</reviewed_response>", "depth: score\n" * 3, "\u202e"):
        for prompt in (WORLD.prompts(1, 0, "train")[0], text):
            for question in questions(prompt, text + "x"):
                answer(question)


# -- the second teacher -------------------------------------------------------------------------------------


def test_the_second_teacher_is_noisier_and_biased_otherwise():
    def scores(name: str, first: str, second: str, **options) -> tuple[float, float]:
        still = {"noise": 0.0, "verbosity_bias": 0.0, "position_bias": 0.0}
        return answer(scoring_question(Prompt.from_text(prompt), first, second), name, **still | options)

    prompt = WORLD.prompts(1, 0, "train")[0]
    bad = "plum plum"
    long = f"{bad} {'is ' * 30}"
    for name, verbosity, position in (("teacher", 2, 2), ("teacher-b", 1, 4)):
        assert scores(name, bad, long, verbosity_bias=2.0) == (1, 1 + verbosity)
        assert scores(name, bad, bad, position_bias=2.0) == (1 + position, 1)
    for prompt, response, _ in attempts(3):
        noisy = [answer(questions(prompt, response)[0], name, seed=0) for name in TEACHERS]
        assert all(1 <= score <= 10 for pair in noisy for score in pair)

    def spread(name: str) -> float:
        grades = [
            answer(attribute_question("q", Prompt.from_text(p), r, ("truth",), TEMPLATES), name, noise=1.0)["truth"]
            - 1
            - 9 * WORLD.quality(p, r)
            for p, r, _ in attempts(300)
            if 0.2 < WORLD.quality(p, r) < 0.8
        ]
        return sum(abs(g) for g in grades) / len(grades)

    assert spread("teacher-b") > 1.25 * spread("teacher")


def test_a_config_can_name_both_teachers_with_the_worlds_settings():
    parts = Parts(WorldSettings(noise=2.0), 0)
    for name in TEACHERS:
        body = parts.chat_model(ChatModel(model=name, base_url="testbed")).extra_body
        assert body["testbed"]["noise"] == 2.0
        assert set(body["testbed"]) == {"seed", "verbosity_bias", "position_bias", "noise", "garble"}
    with pytest.raises(ConfigError, match="'teacher-c'; it has teacher, teacher-b, fallible, novice"):
        parts.chat_model(ChatModel(model="teacher-c", base_url="testbed"))


# -- a fallible teacher -------------------------------------------------------------------------------------


def test_a_fallible_teacher_errs_by_chance_and_at_some_prompts_always_in_the_same_way():
    """At one sample it is right four times out of five; what is wrong with most of ten samples no vote mends."""
    parts = Parts(WorldSettings(), 0)
    texts = [text for text in WORLD.prompts(400, 0, "train") if WORLD.read(text).kind != "choose"]
    model = parts.chat_model(ChatModel(model="fallible", base_url="testbed"))
    consensus, right = [], []
    for text in texts:
        request = {"model": model.model, "messages": [{"role": "user", "content": text}], **model.extra_body}
        answers = [parts.answers.extract(read_completion(reply({**request, "sample": n})).text) for n in range(10)]
        right += [WORLD.quality(text, answer) for answer in answers]
        consensus.append(WORLD.quality(text, max(set(answers), key=answers.count)) == 1)
    assert 0.7 < sum(value == 1 for value in right) / len(right) < 0.9
    assert 0.82 < sum(consensus) / len(consensus) < 0.94


def test_a_misled_teacher_grades_and_refines_by_what_it_believes():
    """It prefers an answer with the wrong item that it believes in, and edits the right one into it."""
    exact, seen, mended = {"noise": 0, "garble": 0, "verbosity_bias": 0}, 0, 0
    for text in WORLD.prompts(150, 0, "train"):
        task, prompt = WORLD.read(text), Prompt.from_text(text)
        answers = [WORLD.items(ask("fallible", text, sample=n)) for n in range(6)]
        usual = max(answers, key=answers.count)
        if task.kind == "choose" or answers.count(usual) < 4 or not misled("fallible", text):
            continue
        seen += 1
        for items in (usual, WORLD.right_items(task, random.Random(0))):
            response = WORLD.respond(task, items, "concise", random.Random(0))
            judging, _ = TEMPLATES.render("judge_pointwise", prompt, response=response)
            editing, _ = TEMPLATES.render("refinement", prompt, preferred=response, rejected=response)
            assert (ask("fallible", judging, **exact) == "10") == (items == usual)
            mended += WORLD.items(ask("fallible", editing, **exact).partition("<edited_response>\n")[2]) == usual
        assert not all(WORLD.judge_items(task, usual))
    assert seen > 5
    assert 0.8 < mended / (2 * seen) < 1  # it slips


# -- labeled rows -------------------------------------------------------------------------------------------


def test_labeled_rows_are_right_and_as_many_as_asked_for():
    parts = Parts(WorldSettings(), 3)
    rows = parts.rows(WorldRows(count=300), "pairs")
    assert [number for number, _ in rows] == list(range(1, 301))
    for _, row in rows:
        assert row["chosen_model"] != row["rejected_model"]
        assert WORLD.quality(row["prompt"], row["chosen"]) > WORLD.quality(row["prompt"], row["rejected"])
    prompts = [row["prompt"] for _, row in rows]
    assert len(set(prompts)) == 300
    offered = WORLD.prompts(400, 3, "train")
    assert prompts == [p for p in offered if p in set(prompts)]  # in their order, but for those passed over
    assert parts.rows(WorldRows(count=40), "pairs") == rows[:40]
    assert Parts(WorldSettings(), 4).rows(WorldRows(count=40), "pairs") != rows[:40]
    pairs, balance = load_pairs("testbed", rows, {}, scored=False)
    assert balance.kept == 300
    assert {p.provenance["chosen_model"] for p in pairs} == {"novice", "learner", "adept", "expert"}
    assert [row["prompt"] for _, row in parts.rows(WorldRows(count=2))] == offered[:2]


def test_labeled_rows_are_written_with_the_worlds_bias():
    def lead(bias: float) -> float:
        """How many more words beside its items the chosen response has."""
        rows = Parts(WorldSettings(style_bias=bias), 0).rows(WorldRows(count=400), "pairs")
        words = [
            WORLD.excess_words(row["prompt"], row["chosen"]) - WORLD.excess_words(row["prompt"], row["rejected"])
            for _, row in rows
        ]
        return sum(words) / len(words)

    assert lead(1.0) > 2
    assert abs(lead(0.0)) < 1
