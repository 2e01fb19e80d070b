"""The engine: what is asked again, what never, what stops the run, and what is counted."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import time
from collections import Counter

import pytest
from helpers import FunctionTransport, fake, fake_engine

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import ChatModel, Price, Sampling
from reward_distiller.errors import EndpointError, LedgerError
from reward_distiller.teacher.endpoint import Overloaded, Refused
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.http_client import Retry
from reward_distiller.teacher.questions import Answer, Question, Unparsable
from reward_distiller.testbed.models import completion_body


def question(identity="q", text=None, parse=lambda text: text):
    return Question(identity, [{"role": "user", "content": text or identity}], parse)


def number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise Unparsable("not a number") from error


def fails(*errors):
    """An answer function that raises these one after the other, then answers `ok`."""
    rest = list(errors)
    return lambda request: rest.pop(0) if rest else "ok"


def test_an_unusable_answer_is_asked_again_then_set_aside_with_all_raw_texts(tmp_path):
    texts = ["no", "not yet", "never"]
    with fake_engine(tmp_path, lambda request: texts[request["sample"]]) as (engine, transport):
        outcome = engine.ask(fake(max_asks=3), "s", [question(parse=number)])["q"]
    assert outcome == Quarantined("not a number", ("no", "not yet", "never"))
    assert [request["sample"] for request in transport.asked] == [0, 1, 2]


def test_the_first_usable_answer_counts(tmp_path):
    with fake_engine(tmp_path, lambda request: ["no", "7", "8"][request["sample"]]) as (engine, transport):
        assert engine.ask(fake(), "s", [question(parse=number)])["q"] == Answer(7, "7")
    assert len(transport.asked) == 2


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": {}}]}', b"\xff"]
)
def test_a_body_that_is_no_completion_is_unusable_and_kept_as_it_came(tmp_path, body):
    with fake_engine(tmp_path, lambda request: body) as (engine, transport):
        outcome = engine.ask(fake(max_asks=2), "s", [question()])["q"]
    assert isinstance(outcome, Quarantined)
    assert "not a chat completion" in outcome.reason
    assert outcome.texts == (body.decode("utf-8", "replace"),) * 2
    assert len(transport.asked) == 2


def test_a_truncated_answer_is_never_used_and_not_asked_again(tmp_path):
    body = json.loads(completion_body("teacher", "1", 1, "x"))
    body["choices"][0]["finish_reason"] = "length"
    with fake_engine(tmp_path, lambda request: json.dumps(body).encode()) as (engine, transport):
        outcome = engine.ask(fake(sampling=Sampling(max_tokens=17)), "s", [question(parse=number)])["q"]
    assert isinstance(outcome, Quarantined)
    assert "17 tokens" in outcome.reason
    assert len(transport.asked) == 1


def test_identical_questions_in_flight_are_bought_once_and_all_answered(tmp_path):
    class Slow(FunctionTransport):
        async def send(self, model, request):
            await asyncio.sleep(0.02)
            return await super().send(model, request)

    transport = Slow(lambda request: "7")
    with open_engine(tmp_path / "ledger.sqlite", {"http://fake": transport}) as engine:
        questions = [question(str(n), "same") for n in range(10)] + [question("other")]
        outcomes = engine.ask(fake(), "s", questions)
        assert outcomes == {q.id: Answer("7", "7") for q in questions}
        assert engine.bought == len(transport.asked) == 2
        assert engine.spent["s", "teacher"].cost.calls == 2


def test_no_more_requests_are_in_flight_than_concurrency_allows(tmp_path):
    flying = [0, 0]

    class Counting(FunctionTransport):
        async def send(self, model, request):
            flying[0] += 1
            flying[1] = max(flying)
            await asyncio.sleep(0.002)
            flying[0] -= 1
            return await super().send(model, request)

    with open_engine(tmp_path / "ledger.sqlite", {"http://fake": Counting(lambda request: "7")}) as engine:
        outcomes = engine.ask(fake(concurrency=4), "s", [question(str(n)) for n in range(40)])
    assert len(outcomes) == 40
    assert flying == [0, 4]


def test_the_server_decides_how_long_to_wait(tmp_path):
    with fake_engine(tmp_path, fails(*[Overloaded("HTTP 429", after=0.0)] * 3)) as (engine, transport):
        engine.first_backoff = 1000.0
        assert engine.ask(fake(), "s", [question()])["q"] == Answer("ok", "ok")
    assert len(transport.asked) == 4
    assert {request["sample"] for request in transport.asked} == {0}

    with fake_engine(tmp_path / "2", fails(Overloaded("HTTP 429", after=0.3))) as (engine, transport):
        start = time.monotonic()
        engine.ask(fake(), "s", [question()])
        assert time.monotonic() - start >= 0.3


def test_a_question_out_of_retries_fails_and_is_asked_anew_by_the_next_run(tmp_path):
    with fake_engine(tmp_path, lambda request: Retry("HTTP 503: busy")) as (engine, transport):
        assert engine.ask(fake(retries=2), "s", [question()])["q"] == Failed("HTTP 503: busy, 3 attempts", gave_up=True)
        assert len(transport.asked) == 3
        assert engine.ledger.stats()["failed"] == 3
    with fake_engine(tmp_path, lambda request: "ok") as (engine, _):
        assert engine.ask(fake(retries=2), "s", [question()])["q"] == Answer("ok", "ok")


def test_a_refused_question_fails_at_once_and_the_others_go_on(tmp_path):
    def answer(request):
        return Refused("HTTP 400: too long") if "bad" in request["messages"][0]["content"] else "ok"

    with fake_engine(tmp_path, answer) as (engine, transport):
        outcomes = engine.ask(fake(), "s", [question("bad"), question("good")])
    assert outcomes == {"bad": Failed("HTTP 400: too long"), "good": Answer("ok", "ok")}
    assert len(transport.asked) == 2


def test_an_endpoint_error_stops_the_run_and_keeps_what_was_answered(tmp_path):
    def answer(request):
        return EndpointError("the key was revoked") if request["messages"][0]["content"] == "5" else "ok"

    questions = [question(str(n)) for n in range(50)]
    with fake_engine(tmp_path, answer) as (engine, transport):
        with pytest.raises(EndpointError, match="revoked"):
            engine.ask(fake(concurrency=1), "s", questions)
        assert len(transport.asked) == 6
        assert engine.missing(fake(), questions) == 45
    with fake_engine(tmp_path, lambda request: "ok") as (engine, transport):
        assert len(engine.ask(fake(), "s", questions)) == 50
        assert len(transport.asked) == 45


@pytest.mark.timeout(30)
def test_a_server_that_was_never_there_is_called_unreachable_soon(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    model = ChatModel(model="m", base_url=url, retries=1000)
    start = time.monotonic()
    with open_engine(tmp_path / "ledger.sqlite", {}) as engine:
        engine.first_backoff = 0.01
        with pytest.raises(EndpointError, match=url) as caught:
            engine.ask(model, "s", [question(str(n)) for n in range(20)])
    assert time.monotonic() - start < 5
    assert "run again" in str(caught.value)


def test_a_server_that_goes_away_later_fails_its_questions_only(tmp_path):
    answers = iter(["ok"])
    with fake_engine(tmp_path, lambda request: next(answers, Retry("ConnectError at fake"))) as (engine, _):
        outcomes = engine.ask(fake(concurrency=1, retries=4), "s", [question("a"), question("b")])
    assert outcomes == {"a": Answer("ok", "ok"), "b": Failed("ConnectError at fake, 5 attempts", gave_up=True)}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("table", ["responses", "attempts"])
def test_a_ledger_that_can_no_longer_be_written_ends_the_run(tmp_path, table):
    def answer(request):
        with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
            db.execute(f"DROP TABLE IF EXISTS {table}")
        return "ok"

    with (
        fake_engine(tmp_path, answer) as (engine, _),
        pytest.raises(LedgerError, match="cannot be written"),
    ):
        engine.ask(fake(concurrency=4), "s", [question(str(n)) for n in range(20)])


def test_what_the_ledger_answers_is_not_asked_but_still_counted(tmp_path):
    questions = [question("a b c"), question("d")]
    with fake_engine(tmp_path, lambda request: "one two three") as (engine, _):
        first = engine.ask(fake(), "s", questions)
        spent = dict(engine.spent)
    with fake_engine(tmp_path, lambda request: EndpointError("must not be asked")) as (engine, _):
        assert engine.ask(fake(concurrency=1, timeout=1.0), "s", questions) == first
        assert engine.bought == 0
        assert dict(engine.spent) == spent
        row = {"step": "s", "model": "teacher", "calls": 2, "input_tokens": 2, "output_tokens": 6, "without_usage": 0}
        assert engine.cost() == [row | {"money": None}]
    with fake_engine(tmp_path, lambda request: EndpointError("must not be asked")) as (engine, _):
        engine.ask(fake(price=Price(input=1e6, output=2e6)), "s", questions)
        assert engine.cost() == [row | {"money": 2.0 + 12.0}]


def test_the_cost_is_not_known_where_one_answer_came_without_usage(tmp_path):
    body = json.loads(completion_body("teacher", "ok", 1, "x"))
    del body["usage"]
    with fake_engine(tmp_path, lambda request: json.dumps(body).encode()) as (engine, _):
        assert engine.ask(fake(price=Price(input=1, output=1)), "s", [question()])["q"] == Answer("ok", "ok")
        [row] = engine.cost()
        assert (row["without_usage"], row["money"]) == (1, None)


def test_two_questions_with_one_id_are_a_mistake_of_the_caller(tmp_path):
    with fake_engine(tmp_path, lambda request: "ok") as (engine, _), pytest.raises(ValueError, match="share an id"):
        engine.ask(fake(), "s", [question("a", "1"), question("a", "2")])


def test_no_questions_need_no_answers(tmp_path):
    with fake_engine(tmp_path, lambda request: "ok") as (engine, transport):
        assert engine.ask(fake(), "s", []) == {}
        assert transport.asked == []


def test_every_attempt_is_a_row_under_its_step(tmp_path):
    with fake_engine(tmp_path, fails(Retry("HTTP 500"))) as (engine, _):
        engine.ask(fake(), "one", [question("a")])
        engine.ask(fake(), "two", [question("b")])
        with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
            found = Counter(db.execute("SELECT step, outcome, detail FROM attempts").fetchall())
    assert found == {("one", "failed", "HTTP 500"): 1, ("one", "committed", None): 1, ("two", "committed", None): 1}


def test_answers_in_flight_when_a_run_must_stop_still_land(tmp_path):
    class Mixed(FunctionTransport):
        async def send(self, model, request):
            if request["messages"][-1]["content"] == "slow":
                await asyncio.sleep(0.1)
                return await super().send(model, request)
            await asyncio.sleep(0.02)
            raise EndpointError("the key was taken away")

    with open_engine(tmp_path / "ledger.sqlite", {"http://fake": Mixed(lambda request: "7")}) as engine:
        with pytest.raises(EndpointError, match="taken away"):
            engine.ask(fake(), "s", [question("a", "slow"), question("b", "bad")])
        assert engine.ledger.stats()["committed"] == 1
        assert engine.ledger.stats()["unknown"] == 0
        assert engine.missing(fake(), [question("a", "slow")]) == 0
