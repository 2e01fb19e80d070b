"""Answers as the JSON of a request's schema: what the text says, under the schema's names."""

from __future__ import annotations

import json

import httpx
import pytest
from helpers import scoring_question

from reward_distiller.construct.attributes import attribute_question
from reward_distiller.construct.rewrite import Change, rewriting_question
from reward_distiller.records import Prompt
from reward_distiller.teacher.completion import read_completion
from reward_distiller.teacher.endpoint import Refused
from reward_distiller.teacher.judging import FORMATS
from reward_distiller.teacher.parsing import parse_pair_scores, parse_refinement, parse_rewriting
from reward_distiller.teacher.prompts import Templates
from reward_distiller.testbed.language import World
from reward_distiller.testbed.models import reply
from reward_distiller.testbed.server import serve
from reward_distiller.testbed.structured import as_json

TEMPLATES = Templates()
TEXTS = World(0).prompts(30, 0, "train")
NUMBER, STRING = {"type": "integer", "minimum": 1, "maximum": 10}, {"type": "string"}


def schema(**properties):
    inner = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": inner}}


def request(messages, form=None, **testbed):
    body = {"model": "teacher", "messages": messages, "testbed": {"garble": 0.0, **testbed}}
    return body | ({"response_format": form} if form else {})


def ask(messages, form=None, **testbed) -> str:
    return read_completion(reply(request(messages, form, **testbed))).text


def pair(text: str):
    return scoring_question(Prompt.from_text(text), f"plum {text}", "plum , fig .").messages


def test_pair_scores_are_those_of_the_text_whatever_the_schemas_order():
    seen = set()
    for text in TEXTS:
        scores = parse_pair_scores(ask(pair(text)))
        for form in (schema(score_1=NUMBER, score_2=NUMBER), schema(score_2=NUMBER, score_1=NUMBER)):
            said = json.loads(ask(pair(text), form))
            assert said == {"score_1": scores[0], "score_2": scores[1]}
            assert all(type(score) is int for score in said.values())
        seen.add(scores)
    assert len(seen) > 5


def test_a_single_score_takes_the_name_and_the_type_of_the_schema():
    alone = FORMATS["pointwise"].question("q", Prompt.from_text(TEXTS[0]), ["plum ."], TEMPLATES).messages
    score = int(ask(alone))
    assert json.loads(ask(alone, schema(score=NUMBER))) == {"score": score}
    assert json.loads(ask(alone, schema(grade=NUMBER))) == {"grade": score}
    assert json.loads(ask(alone, schema(score=STRING))) == {"score": str(score)}


def test_a_calibrated_score_can_be_asked_for_in_json():
    prompt = Prompt.from_text(TEXTS[0])
    editing, _ = TEMPLATES.render("refinement", prompt, preferred="plum .", rejected="fig .")
    turns = [{"role": "user", "content": editing}]
    turns.append({"role": "assistant", "content": ask(turns)})
    turns.append({"role": "user", "content": TEMPLATES.render("calibrated_score", prompt, anchor="3")[0]})
    assert json.loads(ask(turns, schema(score=NUMBER))) == {"score": int(ask(turns))}


def test_attributes_are_properties_of_their_own_names():
    messages = attribute_question("q", Prompt.from_text(TEXTS[0]), "plum .", ("depth", "truth"), TEMPLATES).messages
    said = json.loads(ask(messages, schema(depth=NUMBER, truth=NUMBER)))
    assert "\n".join(f"{name}: {score}" for name, score in said.items()) == ask(messages)


def test_parts_in_tags_are_properties_named_as_the_tags():
    prompt = Prompt.from_text("say : </edited_response>")  # the prompt's tags get a mark
    editing, mark = TEMPLATES.render("refinement", prompt, preferred="a", rejected="b\n<reasoning>\n</reasoning>")
    assert mark
    messages = [{"role": "user", "content": editing}]
    refined = parse_refinement(ask(messages), mark)
    said = json.loads(ask(messages, schema(reasoning=STRING, edited_response=STRING)))
    assert said == {"reasoning": refined.diagnosis, "edited_response": refined.response}
    rewriting = rewriting_question(Prompt.from_text(TEXTS[0]), "7", Change("worse", ("safety",)), TEMPLATES).messages
    said = json.loads(ask(rewriting, schema(rewritten_response=STRING)))
    assert said == {"rewritten_response": parse_rewriting(ask(rewriting))} == {"rewritten_response": "7"}


def test_a_judges_reasoning_comes_with_its_scores():
    for form, shown, names in (("pairwise_scores", 2, ("score_1", "score_2")), ("pointwise", 1, ("score",))):
        responses = ["plum .", "fig ."][:shown]
        messages = FORMATS[form].question("q", Prompt.from_text(TEXTS[0]), responses, TEMPLATES, True).messages
        said = json.loads(ask(messages, schema(reasoning=STRING, **dict.fromkeys(names, NUMBER))))
        assert list(said) == ["reasoning", *names]
        assert all(f" {said[name]} to " in f" {said['reasoning']} " for name in names)
        verdict = json.loads(ask(messages, schema(reasoning=STRING, verdict=STRING)))["verdict"]
        assert verdict == " ".join(str(said[name]) for name in names)


def test_free_text_takes_the_only_property():
    messages = [{"role": "user", "content": TEXTS[0]}]
    assert json.loads(ask(messages, schema(response=STRING))) == {"response": ask(messages)}


def test_log_probabilities_are_of_the_numbers_in_the_json():
    body = request(pair(TEXTS[0]), schema(score_1=NUMBER, score_2=NUMBER), noise=2.0)
    [choice] = json.loads(reply(body | {"logprobs": True, "top_logprobs": 5}))["choices"]
    entries = choice["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == choice["message"]["content"]
    graded = [entry["token"] for entry in entries if len(entry["top_logprobs"]) > 1]
    assert graded == [str(score) for score in json.loads(choice["message"]["content"]).values()]


def test_a_garbled_answer_keeps_no_schema_either():
    text = ask(pair(TEXTS[0]), schema(score_1=NUMBER, score_2=NUMBER), garble=1.0)
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(text)


@pytest.mark.parametrize(
    "form",
    [
        schema(winner=STRING, score_1=NUMBER),
        schema(),
        {"type": "json_object"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"schema": {"properties": ["score_1"]}}},
        "json",
    ],
)
def test_a_form_that_no_answer_has_is_refused(form):
    with pytest.raises(Refused):
        ask(pair(TEXTS[0]), form)
    with serve() as server:
        answer = httpx.post(f"{server.base_url}/chat/completions", json=request(pair(TEXTS[0]), form))
        assert answer.status_code == 400
        assert server.written == 0


def test_text_that_looks_like_parts_stays_text():
    for text in ("<b>\nbold\n</b> and more", "depth: many", "7 of 8", "", "٧", "x: 1\n\n"):
        assert json.loads(as_json(text, {"answer": STRING})) == {"answer": text}
