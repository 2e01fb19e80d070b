"""Calls through a batch API, against the testbed's server over HTTP: what is bought, counted, lost and found again."""

import asyncio
import sqlite3
from contextlib import closing, contextmanager

import pytest
from typer.testing import CliRunner

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.cli.batch import app
from reward_distiller.config import Caps, ChatModel
from reward_distiller.errors import BatchesPending, BudgetReached, ConfigError, EndpointError
from reward_distiller.teacher import batch_buying, ledger_batches
from reward_distiller.teacher.batch_api import BatchApi
from reward_distiller.teacher.batch_lines import BrokenLine, Result, custom_id, request_line, results
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.ledger import Call, Ledger
from reward_distiller.teacher.ledger_report import prices_of, report
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import ask_for
from reward_distiller.teacher.worst_case import worst_case
from reward_distiller.testbed.batches import FAULTS
from reward_distiller.testbed.language import World
from reward_distiller.testbed.server import serve

PROMPTS = World(0).prompts(12, 0, "train")
QUESTIONS = [Question(f"q{n}", [{"role": "user", "content": text}], str.strip) for n, text in enumerate(PROMPTS)]


def model(server, batch=(), **fields) -> ChatModel:
    batch = {"poll": 0.01, **dict(batch)}
    return ChatModel(model="expert", base_url=server.base_url, batch=batch, retries=3, **fields)


@contextmanager
def engine_of(folder, caps=None, models=()):
    with open_engine(folder / "ledger.sqlite", {}, caps, models) as engine:
        engine.first_backoff = 0.001
        yield engine


def ask(folder, teacher, questions=QUESTIONS, **options):
    with engine_of(folder, **options) as engine:
        outcomes = engine.ask(teacher, "s", questions)
        return outcomes, engine.cost(), engine.bought


def ask_offline(folder, teacher):
    with open_engine(folder / "ledger.sqlite", {}, offline=True) as engine:
        return engine.ask(teacher, "s", QUESTIONS)


def rows(folder, query):
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        return db.execute(query).fetchall()


def values(outcomes):
    return {name: outcome.value for name, outcome in outcomes.items() if isinstance(outcome, Answer)}


@pytest.fixture
def direct(tmp_path):
    with serve() as server:
        outcomes, [cost], _ = ask(
            tmp_path, model(server, price={"input": 1, "output": 1}).model_copy(update={"batch": None})
        )
    (tmp_path / "ledger.sqlite").unlink()
    return values(outcomes), cost


def test_a_batch_brings_what_direct_calls_bring_at_half_the_price(tmp_path, direct):
    with serve(batch_looks=2) as server:
        teacher = model(server, price={"input": 1, "output": 1})
        outcomes, [cost], bought = ask(tmp_path, teacher)
        assert (values(outcomes), bought, server.batches.created, server.written) == (direct[0], 12, 1, 12)
        assert cost["output_tokens"] == direct[1]["output_tokens"]
        assert cost["money"] == pytest.approx(direct[1]["money"] / 2)
        again, [cost_again], bought = ask(tmp_path, teacher)
        assert (again, cost_again, bought, server.batches.created) == (outcomes, cost, 0, 1)
        with Ledger.read(tmp_path / "ledger.sqlite") as ledger:
            total = report(ledger, prices_of([teacher])).as_json()["total"]
        assert total["money"] == pytest.approx(cost["money"])


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "fail"])
def test_a_batch_that_goes_wrong_loses_nothing(tmp_path, direct, fault):
    with serve(batch_faults=[fault]) as server:
        outcomes, _, _ = ask(tmp_path, model(server))
        assert values(outcomes) == direct[0]
        unknown = rows(tmp_path, "SELECT count(*) FROM attempts WHERE outcome IS NULL")[0][0]
        assert unknown == (4 if fault == "lose" else 0)
        assert server.written == 12 + unknown  # nothing that came back is bought again
        assert server.batches.created == (2 if fault in ("expire", "lose") else 1)


def test_lines_that_meet_an_error_are_handed_over_again(tmp_path, direct):
    with serve(faults={"500": 0.3, "429": 0.2, "hang": 0.1}, hang_seconds=0.1) as server:
        outcomes, _, _ = ask(tmp_path, model(server))
        assert values(outcomes) == direct[0]
        assert server.batches.created > 1
        assert server.written == 12


def test_what_no_parser_takes_is_asked_again_and_then_set_aside(tmp_path):
    def never(text):
        raise ValueError("no answer")

    with serve() as server:
        questions = [Question("q", QUESTIONS[0].messages, never), QUESTIONS[1]]
        outcomes, _, bought = ask(tmp_path, model(server), questions)
    assert isinstance(outcomes["q"], Quarantined)
    assert (len(outcomes["q"].texts), bought) == (3, 4)
    assert isinstance(outcomes["q1"], Answer)


def test_a_refused_line_fails_alone(tmp_path):
    with serve() as server:
        strange = Question("odd", QUESTIONS[1].messages, str, {"top_logprobs": 3})  # without `logprobs`
        outcomes, _, _ = ask(tmp_path, model(server), [strange, QUESTIONS[0]])
    assert isinstance(outcomes["odd"], Failed)
    assert not outcomes["odd"].gave_up
    assert isinstance(outcomes["q0"], Answer)


def test_a_batch_that_fails_as_a_whole_stops_the_run_and_costs_nothing(tmp_path, direct):
    with serve(batch_faults=["fail"]) as server:
        with pytest.raises(EndpointError, match=r"batch_1 failed: a fault that was asked for"):
            ask(tmp_path, model(server))
        assert rows(tmp_path, "SELECT DISTINCT outcome FROM attempts") == [("failed",)]
        assert values(ask(tmp_path, model(server))[0]) == direct[0]


def test_limits_cut_questions_into_several_batches(tmp_path, direct):
    with serve() as server:
        assert values(ask(tmp_path, model(server, batch={"max_requests": 5}))[0]) == direct[0]
        assert server.batches.created == 3
    (tmp_path / "ledger.sqlite").unlink()
    with serve() as server:
        assert values(ask(tmp_path, model(server, batch={"max_bytes": 1000}))[0]) == direct[0]
        assert server.batches.created > 2


def test_a_run_that_does_not_wait_goes_on_another_day(tmp_path, direct):
    with serve(batch_looks=2) as server:
        teacher = model(server, batch={"wait": False})
        for _ in range(2):
            with pytest.raises(BatchesPending, match=r"1 batches with 12 calls"):
                ask(tmp_path, teacher)
        assert values(ask(tmp_path, teacher)[0]) == direct[0]
        assert server.batches.created == 1


def test_one_more_question_does_not_hand_the_others_over_again(tmp_path):
    with serve(batch_looks=2) as server:
        with pytest.raises(BatchesPending):
            ask(tmp_path, model(server, batch={"wait": False}), QUESTIONS[:8])
        outcomes, _, bought = ask(tmp_path, model(server), QUESTIONS)
        assert (len(values(outcomes)), bought, server.written) == (12, 4, 12)


def begun(folder, teacher):
    """The rows of a batch whose process died before it knew the server's name for it."""
    asked = [ask_for(teacher, question, 0) for question in QUESTIONS]
    calls = [Call(one.key, teacher.model, one.text, "s", *worst_case(one.request)) for one in asked]
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        batch = ledger_batches.begin(ledger, teacher.model, teacher.base_url, 0.5, calls)
    return asked, batch


def test_a_batch_whose_id_was_never_written_is_found_by_its_mark(tmp_path, direct):
    with serve() as server:
        teacher = model(server)
        asked, batch = begun(tmp_path, teacher)

        async def create():
            api = BatchApi(teacher)
            for mark in (batch.mark, *(f"other {n}" for n in range(130))):  # more than a page of the list
                file = await api.upload(b"".join(request_line(one.key, one.request) for one in asked))
                await api.create(file, mark)
            await api.close()

        asyncio.run(create())
        outcomes, _, bought = ask(tmp_path, teacher)
        assert (values(outcomes), bought, server.written) == (direct[0], 0, 12)


def test_a_batch_that_the_server_does_not_know_counts_at_its_worst_case(tmp_path, direct, monkeypatch):
    monkeypatch.setattr(batch_buying, "LISTED_WITHIN", 0.3)
    with serve() as server:
        teacher = model(server, price={"input": 1, "output": 1})
        begun(tmp_path, teacher)
        outcomes, _, bought = ask(tmp_path, teacher)
        assert (values(outcomes), bought) == (direct[0], 12)
    with Ledger.read(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.unknown_attempts == 12
        total = report(ledger, prices_of([teacher])).as_json()["total"]
    assert total["worst_money"] == pytest.approx((total["worst_input"] + total["worst_output"]) / 2e6)


def test_a_budget_hands_over_what_fits_and_stops_below_the_cap(tmp_path):
    with serve() as server:
        teacher = model(server)
        with pytest.raises(BudgetReached, match="calls"):
            ask(tmp_path, teacher, caps=Caps(calls=5), models=[teacher])
        assert server.written == 5
        with pytest.raises(BudgetReached, match="calls"):
            ask(tmp_path, teacher, caps=Caps(calls=7), models=[teacher])
        assert server.written == 7
        priced = model(server, price={"input": 1e6, "output": 1e6})
        worst = sum(worst_case(ask_for(priced, QUESTIONS[7], 0).request))
        spent = ask(tmp_path, priced, QUESTIONS[:7])[1][0]["money"]
        with pytest.raises(BudgetReached, match="money"):
            ask(tmp_path, priced, caps=Caps(money=spent + worst / 2 - 1), models=[priced])
        ask(tmp_path, priced, QUESTIONS[:8], caps=Caps(money=spent + worst / 2 + 1), models=[priced])
        assert server.written == 8


def test_money_that_an_open_batch_could_cost_is_given_back_when_it_comes(tmp_path):
    with serve(batch_looks=1) as server:
        teacher = model(server, batch={"wait": False}, price={"input": 1, "output": 1})
        with pytest.raises(BatchesPending):
            ask(tmp_path, teacher, QUESTIONS[:6])
        worst = sum(sum(worst_case(ask_for(teacher, q, 0).request)) for q in QUESTIONS[:6]) / 2e6
        with engine_of(tmp_path, caps=Caps(money=1.0), models=[teacher]) as engine:
            assert float(engine.budget.spent.money) == pytest.approx(worst)
            engine.ask(teacher, "s", QUESTIONS[:6])
            assert float(engine.budget.spent.money) == pytest.approx(engine.cost()[0]["money"])


@pytest.mark.parametrize(
    "fields",
    [
        {"launch": "vllm"},
        {"base_url": "testbed"},
        {"base_url": "http://a/v1", "endpoints": [{"base_url": "http://b/v1"}]},
    ],
)
def test_batches_go_to_one_server_at_a_url(fields):
    with pytest.raises(ValueError, match="batch goes through one server at a URL"):
        ChatModel(model="m", batch={}, **fields)


def test_a_server_without_the_batch_api_is_named(tmp_path):
    with serve() as server:
        teacher = model(server).model_copy(update={"base_url": server.base_url + "/none"})
        with pytest.raises(EndpointError, match="404"):
            ask(tmp_path, teacher)
    assert rows(tmp_path, "SELECT count(*) FROM attempts") == [(0,)]


def command(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_batches_are_listed_collected_and_cancelled_between_runs(tmp_path):
    with serve(batch_looks=1) as server:
        config = tmp_path / "config.yaml"
        config.write_text(
            f"""
            output: {tmp_path}
            scenario: labeled
            pairs: {{path: none.jsonl}}
            teacher: {{model: expert, base_url: "{server.base_url}", batch: {{poll: 0.01, wait: false}}}}
            student: {{model: none}}
            """
        )
        teacher = model(server, batch={"wait": False})
        with pytest.raises(BatchesPending):
            ask(tmp_path, teacher)
        assert "in_progress, open" in command("list", tmp_path / "ledger.sqlite")
        with pytest.raises(ConfigError, match="no open batch 'batch_9'"):
            command("cancel", config, "batch_9")
        listed = command("cancel", config)
        assert listed.splitlines()[-1].split()[-2:] == ["12", "0"]
        assert "cancelled" in listed
        assert server.written == 6
        assert command("collect", config).endswith("no batches\n")
        unanswered = [q for q in QUESTIONS if q.id not in values(ask_offline(tmp_path, teacher))]
        assert len(unanswered) == 6
        with pytest.raises(BatchesPending):
            ask(tmp_path, teacher)
        assert "completed" in command("collect", config)
        assert server.written == 12
        assert ask(tmp_path, teacher)[2] == 0


def test_lines_are_joined_by_their_id_and_read_as_far_as_they_can_be():
    key = "sha256:" + "ab" * 32
    assert custom_id(key) == "ab" * 32
    line = request_line(key, {"model": "m", "messages": [], "sample": 3})
    assert line == (
        b'{"body":{"messages":[],"model":"m"},"custom_id":"' + b"ab" * 32 + b'","method":"POST",'
        b'"url":"/v1/chat/completions"}\n'
    )
    good = b'{"custom_id": "a", "response": {"status_code": 200, "body": {"x": "\xe2\x80\xa8"}}, "error": null}'
    expired = b'{"custom_id": "b", "response": null, "error": {"code": "batch_expired"}}'
    data = b"\n".join([good, b"", expired, b"null", b"[]", b'{"custom_id": 3}', good[:20], b"\xff"])
    first, second, *broken = results(data)
    assert first == Result("a", 200, '{"x": "\u2028"}'.encode())
    assert second == Result("b", None, b"", "batch_expired")
    assert len(broken) == 5
    assert all(isinstance(line, BrokenLine) for line in broken)


def test_a_ledger_of_version_2_knows_no_batches_and_goes_on(tmp_path, direct):
    with serve() as server:
        teacher = model(server)
        ask(tmp_path, teacher.model_copy(update={"batch": None}), QUESTIONS[:5])
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as db, db:
            db.executescript(
                "DROP TABLE batches; DROP INDEX attempts_batch; ALTER TABLE attempts DROP COLUMN batch;"
                "ALTER TABLE responses DROP COLUMN price_factor; PRAGMA user_version = 2"
            )
        outcomes, _, bought = ask(tmp_path, teacher)
        assert (values(outcomes), bought) == (direct[0], 7)
