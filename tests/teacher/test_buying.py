"""Calls as they are bought: what uses up a retry, what may be billed, caps that hold, several endpoints."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from helpers import FunctionTransport, fake, fake_engine
from multidict import CIMultiDict

from reward_distiller.balance import Failed
from reward_distiller.config import Caps, Endpoint, Price, Sampling
from reward_distiller.errors import BudgetReached, ConfigError, EndpointError
from reward_distiller.teacher.endpoint import Overloaded, Refused, accept
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.http_client import Reply, Retry
from reward_distiller.teacher.ledger import Ledger
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.spending import spent
from reward_distiller.testbed.models import completion_body

PRICE = Price(input=1.0, output=2.0)


def questions(count: int, start: int = 0) -> list[Question[str]]:
    return [Question(str(n), [{"role": "user", "content": f"number {n}"}], str) for n in range(start, start + count)]


def billed(request, answer: str = "ok", tokens: int = 7) -> bytes:
    body = json.loads(completion_body(request["model"], answer, 1, "test"))
    return json.dumps(body | {"usage": {"prompt_tokens": tokens, "completion_tokens": 1}}).encode()


def raising(*errors):
    rest = list(errors)
    return lambda request: rest.pop(0) if rest else "ok"


def test_push_backs_use_up_no_retry(tmp_path):
    pushes = [Overloaded("HTTP 429", after=0.0)] * 5
    with fake_engine(tmp_path, raising(*pushes)) as (engine, transport):
        assert engine.ask(fake(retries=0), "s", questions(1))["0"] == Answer("ok", "ok")
    assert len(transport.asked) == 6


def test_a_request_that_is_always_pushed_back_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("reward_distiller.teacher.buying.PUSH_BACKS", 3)
    with fake_engine(tmp_path, lambda request: Overloaded("HTTP 429", after=0.0)) as (engine, _):
        assert engine.ask(fake(), "s", questions(1))["0"] == Failed("HTTP 429, 4 attempts", gave_up=True)


def test_an_answer_lost_on_its_way_counts_at_its_worst_case(tmp_path):
    model = fake(price=PRICE, sampling=Sampling(max_tokens=100))
    with fake_engine(tmp_path, raising(Retry("reset", lost=True), Retry("HTTP 500"))) as (engine, transport):
        engine.ask(model, "s", questions(1))
        assert len(transport.asked) == 3
        assert engine.ledger.unknown_attempts == 1
        found = spent(engine.ledger, {"teacher": PRICE})
    assert found.calls == 2
    assert found.output_tokens >= 100


def test_an_offline_engine_asks_nobody(tmp_path):
    with fake_engine(tmp_path, lambda request: "ok") as (engine, _):
        engine.ask(fake(), "s", questions(1))
    transport = FunctionTransport(lambda request: "ok")
    with open_engine(tmp_path / "ledger.sqlite", {"http://fake": transport}, offline=True) as engine:
        outcomes = engine.ask(fake(), "s", questions(2))
    assert outcomes == {"0": Answer("ok", "ok"), "1": Failed("not in the ledger", gave_up=True)}
    assert transport.asked == []


# -- caps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caps", [Caps(calls=25), Caps(tokens=5000), Caps(money=0.01)])
def test_a_cap_is_never_passed_across_resumes_and_faults(tmp_path, caps):
    """Each run buys what the cap allows, is stopped below it, and the next one has nothing left to spend."""
    rng = random.Random(0)
    model = fake(price=PRICE, sampling=Sampling(max_tokens=100), concurrency=8)

    def answer(request):
        return rng.choice([Retry("reset", lost=True), Retry("HTTP 500"), *[billed(request)] * 6])

    transport = FunctionTransport(answer)
    for _ in range(3):
        with open_engine(tmp_path / "ledger.sqlite", {"http://fake": transport}, caps, [model]) as engine:
            engine.first_backoff = 0.001
            with pytest.raises(BudgetReached, match="cap on"):
                engine.ask(model, "s", questions(500))
        with Ledger.read(tmp_path / "ledger.sqlite") as ledger:
            found = spent(ledger, {"teacher": PRICE})
        for name in ("calls", "tokens", "money"):
            limit = getattr(caps, name)
            assert limit is None or getattr(found, name) <= limit
    assert 0 < found.calls < 500
    if caps.calls:
        assert found.calls == caps.calls  # a cap on calls is used up


def test_what_the_ledger_answers_costs_nothing_however_low_the_cap(tmp_path):
    with fake_engine(tmp_path, lambda request: "ok") as (engine, _):
        engine.ask(fake(), "s", questions(5))
    with open_engine(tmp_path / "ledger.sqlite", {}, Caps(calls=0), [fake()]) as engine:
        assert len(engine.ask(fake(), "s", questions(5))) == 5


def test_a_cap_on_money_needs_prices(tmp_path):
    with (
        pytest.raises(ConfigError, match="price"),
        open_engine(tmp_path / "ledger.sqlite", {}, Caps(money=1.0), [fake()]),
    ):
        pass


# -- several endpoints --------------------------------------------------------------------------------


def test_endpoints_share_the_calls_and_a_dead_one_costs_nothing(tmp_path):
    class Slow(FunctionTransport):
        async def send(self, model, request):
            await asyncio.sleep(0.005)
            return await super().send(model, request)

    alive = {url: Slow(lambda request: "ok") for url in ("http://fake", "http://other")}
    dead = FunctionTransport(lambda request: Retry("refused", reached=False))
    model = fake(
        concurrency=4,
        endpoints=[Endpoint(base_url=url, concurrency=4) for url in ("http://other", "http://dead")],
    )
    with open_engine(tmp_path / "ledger.sqlite", {**alive, "http://dead": dead}) as engine:
        engine.first_backoff = 0.01
        outcomes = engine.ask(model, "s", questions(200))
    assert set(outcomes.values()) == {Answer("ok", "ok")}
    counts = [len(transport.asked) for transport in alive.values()]
    assert sum(counts) == 200
    assert min(counts) > 50
    assert 0 < len(dead.asked) < 20


def test_where_a_model_is_served_is_no_part_of_the_key(tmp_path):
    with fake_engine(tmp_path, lambda request: "ok") as (engine, _):
        engine.ask(fake(), "s", questions(1))
        elsewhere = fake(endpoints=[Endpoint(base_url="http://other")])
        assert engine.missing(elsewhere, questions(1)) == 0


# -- what servers say no with --------------------------------------------------------------------------


def accepted(status: int, body, headers=None):
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    return accept(fake(), Reply(status, CIMultiDict(headers or {}), said))


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"loc": ["body", "top_k"], "msg": "Input should be less"}]},
        {"error": {"message": "Unsupported value", "param": "top_k", "code": "unsupported_value"}},
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_parameter_at_fault_is_named_and_stops_the_run(status, body):
    with pytest.raises(EndpointError, match="parameter top_k"):
        accepted(status, body)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "m", "param": "messages", "code": "context_length_exceeded"}},
        {"error": {"message": "This model's maximum context length is 4096 tokens", "param": None}},
        {"object": "error", "message": "the prompt is too long"},
    ],
)
def test_what_is_too_long_is_a_counted_drop(body):
    with pytest.raises(Refused, match="too long for the model") as caught:
        accepted(400, body)
    assert Failed(str(caught.value)).summary == "refused: too long for the model"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", {"detail": []}, {"error": None}, {"error": {"param": 7}}])
def test_other_refusals_concern_one_request(body):
    with pytest.raises(Refused):
        accepted(400, body)


@pytest.mark.parametrize(("status", "after"), [(429, "3"), (503, None), (529, "x")])
def test_overload_is_told_from_failure(status, after):
    with pytest.raises(Overloaded) as caught:
        accepted(status, b"later", {"Retry-After": after} if after else None)
    assert caught.value.after == (3.0 if after == "3" else None)
    with pytest.raises(Retry) as failed:
        accepted(500, b"oops")
    assert not isinstance(failed.value, Overloaded)
