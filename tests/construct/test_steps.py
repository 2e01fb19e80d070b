"""The construction steps on small inputs, with a teacher that answers by a function."""

from __future__ import annotations

import random
import re

import pytest
from helpers import HOSTILE, fake, fake_engine, labeled

from reward_distiller.balance import Balance
from reward_distiller.config import Annotation
from reward_distiller.construct.annotate import agree, annotate
from reward_distiller.construct.candidates import collect_candidates, draw_two
from reward_distiller.construct.estimate import estimate
from reward_distiller.construct.filter import filter_edits, filter_margins
from reward_distiller.construct.pairs import read_pairs, write_pairs
from reward_distiller.construct.pipeline import Construction, ConstructionPlan, Refinement, split_prompts
from reward_distiller.construct.reference import add_references
from reward_distiller.construct.refine import Refined, refine
from reward_distiller.construct.score import score_pairwise, score_self_calibrated
from reward_distiller.construct.scoring import Scoring
from reward_distiller.errors import CallsFailed, ConfigError
from reward_distiller.records import Pair, Prompt, Response
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.teacher.prompts import Templates

TEMPLATES = Templates()
TEACHER = fake()


def prompts(count: int) -> list[Prompt]:
    return [Prompt.from_text(f"question {n}") for n in range(count)]


def inside(text: str, tag: str) -> str:
    """What stands between a tag, whatever its mark."""
    found = re.search(rf"<{tag}(-\d+)?>\n(.*?)\n</{tag}(-\d+)?>", text, re.DOTALL)
    assert found
    return found[2]


def shown(request) -> tuple[str, str]:
    text = request["messages"][-1]["content"]
    return inside(text, "response_1"), inside(text, "response_2")


def grades(**by_text):
    """A teacher that gives each response its own grade, wherever it is shown."""
    return lambda request: " ".join(str(by_text[text]) for text in shown(request))


def fates(balance: Balance) -> dict[str, int]:
    return {fate: count for fate, count in balance.as_dict().items() if isinstance(count, int) and count}


# -- candidates and the draw --------------------------------------------------------------------------


def test_each_candidate_answers_each_prompt_and_a_failure_is_counted(tmp_path):
    def answer(request):
        if request["model"] == "mute":
            return "  "
        if request["messages"][0]["content"] == "question 1":
            return Refused("HTTP 400: too long")
        return f"{request['model']} on {request['messages'][0]['content']}"

    models = [fake("a"), fake("b"), fake("mute", max_asks=1)]
    with fake_engine(tmp_path, answer) as (engine, _):
        pool, balance = collect_candidates(prompts(3), models, engine)
    texts = [[r.text for r in pool[p.id]] for p in prompts(3)]
    assert texts == [["a on question 0", "b on question 0"], [], ["a on question 2", "b on question 2"]]
    assert fates(balance) == {"in": 9, "kept": 4, "quarantined": 3, "failed": 2}
    assert balance.quarantine[0] == {
        "step": "candidates",
        "record": prompts(3)[0].id,
        "model": "mute",
        "reason": "empty response",
        "answers": ("  ",),
    }


def pool_of(subjects, texts=("a", "b", "c", "d")):
    return {p.id: [Response(prompt_id=p.id, model=t.upper(), text=t) for t in texts] for p in subjects}


def test_a_draw_depends_on_its_prompt_and_the_seed_alone():
    subjects = prompts(60)
    drawn, balance = draw_two(subjects, pool_of(subjects), seed=0)
    assert fates(balance) == {"in": 60, "kept": 60}
    by_prompt = {p.id: (a.text, b.text) for p, a, b in drawn}
    some = random.Random(0).sample(subjects, 20)
    assert {p.id: (a.text, b.text) for p, a, b in draw_two(some, pool_of(some), seed=0)[0]} == {
        p.id: by_prompt[p.id] for p in some
    }
    assert len(set(by_prompt.values())) == 12  # every ordered pair of the four comes up
    again = {p.id: (a.text, b.text) for p, a, b in draw_two(subjects, pool_of(subjects), seed=1)[0]}
    assert again != by_prompt


def test_a_draw_takes_two_texts_never_one_text_twice():
    subjects = prompts(40)
    pool = pool_of(subjects, ("a", "a", "a", "b"))
    for prompt in subjects[:10]:
        pool[prompt.id] = pool[prompt.id][:3]
    pool[subjects[10].id] = []
    drawn, balance = draw_two(subjects, pool, seed=0)
    assert all({a.text, b.text} == {"a", "b"} for _, a, b in drawn)
    assert fates(balance) == {"in": 40, "kept": 29, "dropped": 11}


# -- annotation -----------------------------------------------------------------------------------------


def test_the_higher_score_is_chosen_and_a_tie_makes_no_pair(tmp_path):
    subjects = prompts(4)
    drawn = [(p, *pool_of([p], texts)[p.id]) for p, texts in zip(subjects, ["ab", "ba", "bc", "dx"], strict=True)]
    teacher = fake(max_asks=1)
    with fake_engine(tmp_path, grades(a=7, b=4.5, c=4.5, d="?", x="?")) as (engine, _):
        pairs, balance = annotate(drawn, Scoring(teacher, TEMPLATES, engine))
    assert [(p.prompt, p.chosen, p.rejected, p.chosen_score, p.rejected_score) for p in pairs] == [
        (subjects[0], "a", "b", 7.0, 4.5),
        (subjects[1], "a", "b", 7.0, 4.5),
    ]
    assert [p.provenance["chosen_shown"] for p in pairs] == [1, 2]
    assert {(p.provenance["chosen_model"], p.provenance["rejected_model"]) for p in pairs} == {("A", "B")}
    assert {p.source for p in pairs} == {"sampled"}
    assert fates(balance) == {"in": 4, "kept": 2, "tied": 1, "quarantined": 1}


def test_labels_are_checked_with_the_responses_in_random_order(tmp_path):
    pairs = [labeled(f"q{n}", "good", "bad") for n in range(40)]
    with fake_engine(tmp_path, grades(good=9, bad=2)) as (engine, transport):
        kept, balance = agree(pairs, Scoring(TEACHER, TEMPLATES, engine), seed=0)
    orders = [shown(request) for request in transport.asked]
    assert 10 < orders.count(("good", "bad")) < 30
    assert {(p.chosen, p.chosen_score, p.rejected, p.rejected_score) for p in kept} == {("good", 9.0, "bad", 2.0)}
    assert [p.provenance["chosen_shown"] for p in kept] == [1 if o == ("good", "bad") else 2 for o in orders]
    assert [p.id for p in kept] == [p.id for p in pairs]
    assert fates(balance) == {"in": 40, "kept": 40}


def test_a_teacher_that_always_prefers_the_first_confirms_only_some_labels(tmp_path):
    pairs = [labeled(f"q{n}", "good", "bad") for n in range(40)]
    with fake_engine(tmp_path, lambda request: "9 2") as (engine, _):
        kept, balance = agree(pairs, Scoring(TEACHER, TEMPLATES, engine), seed=0)
    assert {p.provenance["chosen_shown"] for p in kept} == {1}
    assert fates(balance) == {"in": 40, "kept": len(kept), "disagreed": 40 - len(kept)}
    assert 10 < len(kept) < 30


def test_ties_disagreements_and_unusable_answers_are_told_apart(tmp_path):
    pairs = [labeled(f"about {texts}", *texts) for texts in ("ab", "ba", "ac", "ad")]
    with fake_engine(tmp_path, grades(a=5, b=3, c=5, d=11)) as (engine, transport):
        kept, balance = agree(pairs, Scoring(TEACHER, TEMPLATES, engine), seed=0)
    assert [(p.chosen, p.margin) for p in kept] == [("a", 2.0)]
    assert fates(balance) == {"in": 4, "kept": 1, "tied": 1, "disagreed": 1, "quarantined": 1}
    assert len(transport.asked) == 3 + TEACHER.max_asks


def test_recorded_scores_need_no_teacher():
    pairs = [labeled("q", "a", text, scores) for text, scores in (("b", (8, 3)), ("c", (3, 8)), ("d", (5, 5)))]
    kept, balance = agree(pairs, None, seed=0)
    assert [(p.rejected, p.chosen_score, p.provenance) for p in kept] == [("b", 8.0, {"teacher": "recorded"})]
    assert fates(balance) == {"in": 3, "kept": 1, "tied": 1, "disagreed": 1}


# -- references and refinement ------------------------------------------------------------------------------


def test_a_reference_is_asked_once_a_prompt_and_only_where_there_is_none(tmp_path):
    pairs = [
        labeled("one", "a", "b"),
        labeled("one", "c", "d"),
        labeled("two", "a", "b", teacher_response="brought along"),
        labeled("three", "a", "b"),
    ]

    def answer(request):
        text = request["messages"][0]["content"]
        return "" if text == "three" else f"teacher on {text}"

    with fake_engine(tmp_path, answer) as (engine, transport):
        completed, balance = add_references(pairs, fake(max_asks=1), engine)
    assert [p.teacher_response for p in completed] == ["teacher on one", "teacher on one", "brought along", None]
    assert sorted(transport.last_texts) == ["one", "three"]
    assert fates(balance) == {"in": 2, "kept": 1, "quarantined": 1}


def refinement_of(request, edit="mended", why="because") -> str:
    mark = re.search(r"<question((-\d+)?)>", request["messages"][0]["content"])[1]
    return f"<reasoning{mark}>\n{why}\n</reasoning{mark}>\n<edited_response{mark}>\n{edit}\n</edited_response{mark}>"


def test_a_refinement_sees_the_teachers_response_and_edits_the_rejected_one(tmp_path):
    pair = labeled("what ?", "chosen text", "rejected text", teacher_response="teacher text")
    with fake_engine(tmp_path, refinement_of) as (engine, transport):
        (refined,), balance = refine([pair], TEACHER, TEMPLATES, engine)
    text = transport.last_texts[0]
    assert inside(text, "question") == "what ?"
    assert inside(text, "preferred_response") == "teacher text"
    assert inside(text, "rejected_response") == "rejected text"
    assert "chosen text" not in text
    assert (refined.pair, refined.response, refined.diagnosis) == (pair, "mended", "because")
    assert [m["role"] for m in refined.dialogue] == ["user", "assistant"]
    assert refined.dialogue[0]["content"] == text
    assert refined.dialogue[1]["content"] == refinement_of(transport.asked[0])
    assert fates(balance) == {"in": 1, "kept": 1}


def test_refinement_of_hostile_text_comes_back_exactly(tmp_path):
    pair = labeled(HOSTILE, "x", HOSTILE + "!", teacher_response=HOSTILE + "?")
    with fake_engine(tmp_path, lambda r: refinement_of(r, HOSTILE + "!!", HOSTILE)) as (engine, transport):
        (refined,), _ = refine([pair], TEACHER, TEMPLATES, engine)
    assert (refined.response, refined.diagnosis) == (HOSTILE + "!!", HOSTILE)
    assert inside(transport.last_texts[0], "rejected_response-3") == HOSTILE + "!"


def test_what_cannot_be_refined_is_counted(tmp_path):
    pairs = [
        labeled("none", "a", "b"),
        labeled("bad", "a", "b", teacher_response="t"),
        labeled("good", "a", "b", teacher_response="t"),
    ]

    def answer(request):
        fine = inside(request["messages"][0]["content"], "question") == "good"
        return refinement_of(request) if fine else "I would rather not"

    with fake_engine(tmp_path, answer) as (engine, _):
        refined, balance = refine(pairs, TEACHER, TEMPLATES, engine)
    assert [r.pair.prompt.messages[0].content for r in refined] == ["good"]
    assert fates(balance) == {"in": 3, "kept": 1, "dropped": 1, "quarantined": 1}


# -- filters ------------------------------------------------------------------------------------------------


def refined_of(pair: Pair, response: str) -> Refined:
    dialogue = ({"role": "user", "content": "edit it"}, {"role": "assistant", "content": f"edited: {response}"})
    return Refined(pair, response, "why", dialogue)


@pytest.mark.parametrize(
    ("response", "tau_e", "kept"),
    [("abc", 0, False), ("abd", 0, True), ("abd", 1, False), ("xyc", 1, True), ("xyc", 2, False), ("", 2, True)],
)
def test_edit_distance_must_exceed_its_threshold(response, tau_e, kept):
    found, balance = filter_edits([refined_of(labeled("q", "z", "abc"), response)], tau_e)
    assert bool(found) == kept
    assert fates(balance) == {"in": 1, ("kept" if kept else "filtered"): 1}


@pytest.mark.parametrize(("scores", "kept"), [((6.0, 3.0), False), ((6.01, 3.0), True), ((3.0, 6.5), False)])
def test_a_margin_must_exceed_its_threshold(scores, kept):
    found, balance = filter_margins([labeled("q", "a", "b", scores)], 3.0)
    assert bool(found) == kept
    assert fates(balance) == {"in": 1, ("kept" if kept else "filtered"): 1}


def test_equal_scores_do_not_pass_even_a_threshold_of_zero():
    assert filter_margins([labeled("q", "a", "b", (5.0, 5.0))], 0.0)[0] == []


# -- scores of refined pairs ----------------------------------------------------------------------------------


def test_self_calibrated_scores_come_with_the_dialogue_and_the_anchor(tmp_path):
    pair = labeled("q", "chosen", "rejected", (8.0, 2.5), teacher_response="teacher")
    with fake_engine(tmp_path, lambda request: "7.5") as (engine, transport):
        (scored,), balance = score_self_calibrated([refined_of(pair, "mended")], Scoring(TEACHER, TEMPLATES, engine))
    *context, last = transport.asked[0]["messages"]
    assert context == list(refined_of(pair, "mended").dialogue)
    assert last["role"] == "user"
    assert re.findall(r"[0-9.]*[0-9]", last["content"]) == ["1", "10", "2.5"]
    assert (scored.chosen, scored.rejected, scored.margin) == ("mended", "rejected", 5.0)
    assert (scored.source, scored.teacher_response) == ("refined", "teacher")
    modes = {"score_mode": "sampled", "rejected_score_mode": "recorded"}
    assert scored.provenance == {"teacher": "teacher", **modes, "refined_from": pair.id, "diagnosis": "why"}
    assert fates(balance) == {"in": 1, "kept": 1}


def test_pairwise_scores_come_in_random_order_without_context(tmp_path):
    items = [refined_of(labeled(f"q{n}", "chosen", "rejected", (8.0, 2.5)), "mended") for n in range(30)]
    with fake_engine(tmp_path, grades(mended=9, rejected=4)) as (engine, transport):
        pairs, balance = score_pairwise(items, Scoring(TEACHER, TEMPLATES, engine), seed=0)
    assert {(p.chosen, p.chosen_score, p.rejected_score) for p in pairs} == {("mended", 9.0, 4.0)}
    assert {shown(request) for request in transport.asked} == {("mended", "rejected"), ("rejected", "mended")}
    assert all(len(request["messages"]) == 1 for request in transport.asked)
    assert fates(balance) == {"in": 30, "kept": 30}


@pytest.mark.parametrize("answer", ["7 8", "eleven", "11"])
def test_an_unusable_score_is_no_pair(tmp_path, answer):
    item = refined_of(labeled("q", "a", "b"), "c")
    for score in (
        lambda engine: score_self_calibrated([item], Scoring(TEACHER, TEMPLATES, engine)),
        lambda engine: score_pairwise([item], Scoring(TEACHER, TEMPLATES, engine), 0),
    ):
        with fake_engine(tmp_path / answer, lambda request: answer if len(request["messages"]) > 1 else "7") as (e, _):
            pairs, balance = score(e)
        assert pairs == []
        assert fates(balance) == {"in": 1, "quarantined": 1}


# -- the whole --------------------------------------------------------------------------------------------------

PLAN = ConstructionPlan(references=True, refinement=Refinement("self_calibrated", tau_e=0, tau_s=3.0))


def whole_teacher(request):
    """Likes `a` best; its own responses are `t`; mends everything but the third question's."""
    text = request["messages"][0]["content"]
    if len(request["messages"]) == 3:
        return "9"
    if "<rejected_response" in text:
        same = inside(text, "question") == "question 2"
        return refinement_of(request, inside(text, "rejected_response") if same else "mended")
    if "<response_1" in text:
        return " ".join("8" if response == "a" else "3" for response in shown(request))
    return "t" if request["model"] == "teacher" else request["model"]


def test_all_steps_of_the_unlabeled_scenario_add_up(tmp_path):
    with fake_engine(tmp_path, whole_teacher) as (engine, transport):
        construction = Construction(engine, TEACHER, TEMPLATES, seed=0)
        pairs = construction.unlabeled(prompts(4), [fake("a"), fake("b")], PLAN)
        asked = len(transport.asked)
        again = Construction(engine, TEACHER, TEMPLATES, seed=0)
        assert again.unlabeled(prompts(4), [fake("a"), fake("b")], PLAN) == pairs
        assert len(transport.asked) == asked
    assert [(p.prompt.messages[0].content[-1], p.source, p.chosen) for p in pairs] == [
        ("0", "sampled", "a"),
        ("0", "refined", "mended"),
        ("1", "sampled", "a"),
        ("1", "refined", "mended"),
        ("2", "sampled", "a"),
        ("3", "sampled", "a"),
        ("3", "refined", "mended"),
    ]
    assert all(p.teacher_response == "t" and p.rejected == "b" for p in pairs)
    assert [b.step for b in construction.balances] == [
        "candidates",
        "draw",
        "annotate",
        "reference",
        "refine",
        "filter edits",
        "score",
        "filter margins",
    ]
    for balance in construction.balances:
        numbers = balance.as_dict()
        fates_of = ("kept", "tied", "disagreed", "filtered", "dropped", "quarantined", "failed")
        assert numbers["in"] == sum(numbers[fate] for fate in fates_of)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert read_pairs(tmp_path / "pairs.jsonl", scored=True) == pairs


def test_labeled_pairs_go_the_same_way(tmp_path):
    with fake_engine(tmp_path, whole_teacher) as (engine, _):
        pairs = Construction(engine, TEACHER, TEMPLATES, seed=0).labeled([labeled("question 0", "a", "b")], PLAN)
    assert [(p.source, p.chosen, p.margin) for p in pairs] == [("labeled", "a", 5.0), ("refined", "mended", 6.0)]


def test_refinement_without_a_teacher_is_a_config_error(tmp_path):
    with fake_engine(tmp_path, whole_teacher) as (engine, _):
        with pytest.raises(ConfigError, match="refine=false"):
            Construction(engine, None, TEMPLATES, seed=0).labeled([labeled("q", "a", "b")], PLAN)
        assert Construction(engine, None, TEMPLATES, 0).labeled([labeled("q", "a", "b")], ConstructionPlan())


def test_more_failures_than_allowed_end_the_run_and_the_next_asks_only_these(tmp_path):
    down = True

    def answer(request):
        text = request["messages"][0]["content"]
        return Refused("HTTP 400: filtered") if down and text == "question 1" else whole_teacher(request)

    models = [fake("a"), fake("b")]
    with fake_engine(tmp_path, answer) as (engine, _):
        construction = Construction(engine, TEACHER, TEMPLATES, seed=0)
        with pytest.raises(CallsFailed, match=r"2 of 8 calls failed \(2 x HTTP 400: filtered\).*allowed_failures"):
            construction.unlabeled(prompts(4), models, PLAN)
        assert [b.step for b in construction.balances] == ["candidates"]
        lenient = Construction(engine, TEACHER, TEMPLATES, seed=0, annotation=Annotation(allowed_failures=0.25))
        assert len({p.prompt.id for p in lenient.unlabeled(prompts(4), models, PLAN)}) == 3
    down = False
    with fake_engine(tmp_path, answer) as (engine, transport):
        assert len(Construction(engine, TEACHER, TEMPLATES, 0).unlabeled(prompts(4), models, PLAN)) == 7
    assert all("question 1" in request["messages"][0]["content"] for request in transport.asked)


def test_an_estimate_is_never_less_than_what_is_asked(tmp_path):
    models = [fake("a"), fake("b")]
    with fake_engine(tmp_path, whole_teacher) as (engine, transport):
        before = estimate(None, prompts(4), [], models, TEACHER, TEMPLATES, PLAN, 0, Annotation())
        Construction(engine, TEACHER, TEMPLATES, seed=0).unlabeled(prompts(4), models, PLAN)
        after = estimate(engine.ledger, prompts(4), [], models, TEACHER, TEMPLATES, PLAN, 0, Annotation())
    assert [row.calls for row in before] == [row.calls for row in after] == [4] * 6
    assert sum(row.calls for row in before) >= len(transport.asked)
    assert [row.bought for row in before] == [0, 0, None, 0, None, None]
    assert [row.bought for row in after] == [4, 4, None, 4, None, None]


def test_a_step_that_loses_a_record_is_found_out():
    balance = Balance("step", "pairs", 2)
    balance.keep()
    with pytest.raises(AssertionError, match="step step: 2 in"):
        balance.check()


def test_a_prompt_is_held_out_whole_whatever_else_is_there():
    pairs = [labeled(f"q{n}", "a", text) for n in range(100) for text in "bc"]
    training, held_out = split_prompts(pairs, 0.3, seed=0)
    sides = [{p.prompt.id for p in side} for side in (training, held_out)]
    assert sides[0].isdisjoint(sides[1])
    assert len(training) + len(held_out) == 200
    assert 15 < len(sides[1]) < 45
    assert {p.prompt.id for p in split_prompts(pairs[50:90], 0.3, seed=0)[1]} == sides[1] & {
        p.prompt.id for p in pairs[50:90]
    }
    assert split_prompts(pairs, 0.0, seed=0) == (pairs, [])
