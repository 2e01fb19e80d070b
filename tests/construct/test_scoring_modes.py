"""How scores are asked for: samples, expectations, means; one order or both; text or JSON."""

from __future__ import annotations

import json
import math

import pytest
from helpers import fake, fake_engine, labeled

from reward_distiller.balance import Quarantined
from reward_distiller.config import Annotation
from reward_distiller.construct.annotate import agree, annotate
from reward_distiller.construct.refine import Refined, refine
from reward_distiller.construct.score import score_pairwise, score_self_calibrated
from reward_distiller.construct.scoring import Scores, Scoring
from reward_distiller.records import Prompt, Response
from reward_distiller.teacher.prompts import Templates

TEMPLATES = Templates()
PROMPT = Prompt.from_text("which one ?")
SHOWN = [("q", PROMPT, "alpha", "beta")]


def first_is(request, text: str) -> bool:
    content = request["messages"][-1]["content"]
    return content.index(text) == min(content.index(t) for t in ("alpha", "beta"))


def scoring(engine, teacher=None, **settings) -> Scoring:
    return Scoring(teacher or fake(), TEMPLATES, engine, Annotation(**settings))


def with_logprobs(text: str, *places: tuple[str, dict[str, float]]) -> bytes:
    content = [
        {"token": token, "top_logprobs": [{"token": t, "logprob": math.log(p)} for t, p in top.items()]}
        for token, top in places
    ]
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": {"content": content}}
    return json.dumps({"choices": [choice]}).encode()


def test_both_orders_are_averaged_in_the_order_given(tmp_path):
    def biased(request):  # a point for what stands first; alpha is two points better
        return "9 6" if first_is(request, "alpha") else "7 8"

    with fake_engine(tmp_path, biased) as (engine, transport):
        outcome = scoring(engine, both_orders=True).of_pairs("annotate", SHOWN)["q"]
    assert outcome == Scores((8.5, 6.5), "sampled", flipped=False)
    assert len(transport.asked) == 2


@pytest.mark.parametrize(("flipped", "kept"), [("tie", 0), ("mean", 1)])
def test_a_verdict_that_the_order_changes_is_a_tie_or_a_soft_label(tmp_path, flipped, kept):
    first, second = (Response(prompt_id=PROMPT.id, model=m, text=t) for m, t in (("A", "alpha"), ("B", "beta")))
    drawn = [(PROMPT, first, second)]
    with fake_engine(tmp_path, lambda r: "9 6" if first_is(r, "alpha") else "8 6") as (engine, _):
        pairs, balance = annotate(drawn, scoring(engine, both_orders=True, flipped=flipped))
    assert len(pairs) == kept
    assert [(p.chosen, p.margin) for p in pairs] == [("alpha", 0.5)] * kept
    assert balance.notes == {"asked in both orders": 1, "of these with another verdict in the other order": 1}
    assert balance.counts["tied"] == 1 - kept
    assert balance.line().endswith("1 of these with another verdict in the other order")
    assert balance.as_dict()["notes"] == dict(balance.notes)


def test_labels_are_confirmed_in_both_orders(tmp_path):
    pair = labeled("which one ?", "alpha", "beta")
    with fake_engine(tmp_path, lambda request: "9 2") as (engine, _):  # always the first
        kept, balance = agree([pair], scoring(engine, both_orders=True), seed=0)
    assert not kept
    assert balance.reasons["tied"] == {"the verdict changes with the order": 1}


def test_an_unusable_answer_in_one_order_is_no_score(tmp_path):
    with fake_engine(tmp_path, lambda r: "9 6" if first_is(r, "alpha") else "none") as (engine, _):
        outcome = scoring(engine, both_orders=True).of_pairs("annotate", SHOWN)["q"]
    assert isinstance(outcome, Quarantined)


def test_the_mean_of_several_samples_each_asked_again_by_itself(tmp_path):
    answers = iter(["8 6", "?", "6 6", "7 9"])
    with fake_engine(tmp_path, lambda request: next(answers)) as (engine, transport):
        how = scoring(engine, fake(concurrency=1), scores="mean_of_n", samples=3)
        outcome = how.of_pairs("annotate", SHOWN)["q"]
    assert outcome == Scores((7.0, 7.0), "mean_of_n")
    samples = [request["sample"] for request in transport.asked]
    assert samples == [0, 3, 4, 6]  # max_asks is 3: the second sample's first answer was unusable


def test_expected_scores_and_what_is_only_a_sample(tmp_path):
    place = {"8": 0.5, "9": 0.5}
    told = with_logprobs("8 3", ("8", place), (" ", {" ": 1.0}), ("3", {"3": 1.0}))

    def answer(request):
        return "8 3" if "gamma" in request["messages"][0]["content"] else told

    shown = [*SHOWN, ("r", PROMPT, "gamma", "beta")]
    with fake_engine(tmp_path, answer) as (engine, transport):
        outcomes = scoring(engine, scores="expected").of_pairs("annotate", shown)
    assert outcomes == {"q": Scores((8.5, 3.0), "expected"), "r": Scores((8.0, 3.0), "sampled")}
    assert all(r["logprobs"] is True and r["top_logprobs"] == 20 for r in transport.asked)


def test_structured_answers_are_asked_for_and_read_as_json(tmp_path):
    def answer(request):
        form = request["response_format"]["json_schema"]
        assert form["strict"]
        assert form["schema"]["additionalProperties"] is False
        assert "one JSON object" in request["messages"][-1]["content"]
        values = {"score": 9, "score_1": 8, "score_2": 3.5, "reasoning": "why", "edited_response": "mended"}
        return json.dumps({name: values[name] for name in form["schema"]["required"]})

    teacher = fake(structured=True)
    pair = labeled("q", "alpha", "beta", (8.0, 2.5), teacher_response="teacher")
    with fake_engine(tmp_path, answer) as (engine, _):
        how = scoring(engine, teacher)
        assert how.of_pairs("annotate", SHOWN)["q"] == Scores((8.0, 3.5))
        (refined,), _ = refine([pair], teacher, TEMPLATES, engine)
        assert (refined.response, refined.diagnosis) == ("mended", "why")
        (scored,), _ = score_self_calibrated([refined], how)
        assert (scored.chosen_score, scored.rejected_score) == (9.0, 2.5)


@pytest.mark.parametrize(
    "text",
    [
        '{"score_1": 8}',
        '{"score_1": 8, "score_2": "3"}',
        '{"score_1": 8, "score_2": true}',
        '{"score_1": 8, "score_2": 3, "x": 1}',
        '{"score_1": 8, "score_2": 11}',
        '{"score_1": 8, "score_2": NaN}',
        '{"score_1": 8, "score_2": 3, "score_2": 4}',
        '{"score_1": 8, "score_2": 3} and more',
        "[8, 3]",
        "[" * 9999,
        "8 3",
        "null",
        "",
    ],
)
def test_json_that_does_not_fit_is_no_score(tmp_path, text):
    with fake_engine(tmp_path, lambda request: text) as (engine, _):
        outcome = scoring(engine, fake(structured=True)).of_pairs("annotate", SHOWN)["q"]
    assert isinstance(outcome, Quarantined)


def test_modes_are_recorded_for_each_score(tmp_path):
    pair = labeled("which one ?", "gamma", "beta", (8.0, 2.0), teacher_response="t")
    pair = pair.model_copy(update={"provenance": {"score_mode": "mean_of_n"}})
    item = Refined(pair, "alpha", "why", ({"role": "user", "content": "mend"}, {"role": "assistant", "content": "ok"}))
    told = with_logprobs("9", ("9", {"9": 1.0}))
    with fake_engine(tmp_path, lambda r: told if len(r["messages"]) > 1 else "9 2") as (engine, _):
        (calibrated,), _ = score_self_calibrated([item], scoring(engine, scores="expected"))
        (pairwise,), _ = score_pairwise([item], scoring(engine), seed=0)
    modes = [(p.provenance["score_mode"], p.provenance["rejected_score_mode"]) for p in (calibrated, pairwise)]
    assert modes == [("expected", "mean_of_n"), ("sampled", "sampled")]


def test_samples_and_their_mean_go_together():
    for settings in ({"samples": 2}, {"scores": "mean_of_n"}, {"scores": "expected", "samples": 2}):
        with pytest.raises(ValueError, match="go together"):
            Annotation(**settings)
