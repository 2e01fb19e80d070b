"""The ledger: written ahead, one writer, nothing bought twice; and what is left when a process is killed.

Run as a program (`python test_ledger.py LEDGER OUTCOMES`) it asks many questions, for the test that kills it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reward_distiller.config import ChatModel, Sampling
from reward_distiller.errors import LedgerError
from reward_distiller.records import Prompt
from reward_distiller.teacher.endpoint import build_request
from reward_distiller.teacher.engine import open_engine
from reward_distiller.teacher.ledger import Call, Ledger, Stored, request_key
from reward_distiller.teacher.parsing import parse_pair_scores
from reward_distiller.teacher.prompts import Templates
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.testbed.language import World
from reward_distiller.testbed.models import ScriptedTransport

QUESTIONS, KILLS, CONCURRENCY = 300, 10, 8


def ask_all(ledger: Path, slow: bool) -> dict:
    """Outcomes of many scoring questions to a teacher that garbles every third answer."""

    class Slow(ScriptedTransport):
        async def send(self, model, request):
            os.write(1, b".")
            await asyncio.sleep(random.uniform(0, 0.01))
            return await super().send(model, request)

    teacher = ChatModel(
        model="teacher", base_url="testbed", concurrency=CONCURRENCY, extra_body={"testbed": {"garble": 0.33}}
    )
    templates = Templates()
    questions = []
    for number, text in enumerate(World(0).prompts(QUESTIONS, 0, "train")):
        question, _ = templates.render(
            "pairwise_scores", Prompt.from_text(text), response_1="fox .", response_2="tin ."
        )
        questions.append(Question(str(number), [{"role": "user", "content": question}], parse_pair_scores))
    with open_engine(ledger, {"testbed": Slow() if slow else ScriptedTransport()}) as engine:
        outcomes = engine.ask(teacher, "score", questions)
    return {
        key: [*o.value, o.text] if isinstance(o, Answer) else [o.reason, *o.texts]
        for key, o in sorted(outcomes.items())
    }


def rows(path: Path, query: str) -> list[tuple]:
    with sqlite3.connect(path) as db:
        return db.execute(query).fetchall()


def test_killed_at_any_point_the_run_goes_on_and_buys_nothing_twice(tmp_path):
    ledger, outcomes = tmp_path / "ledger.sqlite", tmp_path / "outcomes.json"
    expected = ask_all(tmp_path / "unkilled.sqlite", slow=False)
    assert sum(isinstance(o[0], str) for o in expected.values()) > 3  # some end in quarantine
    command = [sys.executable, __file__, str(ledger), str(outcomes)]
    rng = random.Random()
    killed = 0
    for _ in range(KILLS):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            for _ in range(rng.randint(1, 30)):
                child.stdout.read(1)  # one for each request sent
            child.kill()
            killed += child.wait() == -9
    assert killed == KILLS
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert json.loads(outcomes.read_text()) == expected
    assert rows(ledger, "SELECT key FROM attempts WHERE outcome = 'committed' GROUP BY key HAVING count(*) > 1") == []
    assert rows(ledger, "SELECT key FROM responses EXCEPT SELECT key FROM attempts WHERE outcome = 'committed'") == []
    assert rows(ledger, "SELECT count(*) FROM responses") == rows(
        tmp_path / "unkilled.sqlite", "SELECT count(*) FROM responses"
    )
    with Ledger.open(ledger) as reopened:
        stats = reopened.stats()
        assert 0 < reopened.unknown_attempts == stats["unknown"] <= KILLS * CONCURRENCY
        assert stats["attempts"] == stats["committed"] + stats["unknown"]


def test_an_attempt_is_on_disk_before_it_is_sent_and_a_response_before_it_is_read(tmp_path):
    path = tmp_path / "ledger.sqlite"
    seen = []

    class Watching(ScriptedTransport):
        async def send(self, model, request):
            seen.append(rows(path, "SELECT outcome, (SELECT count(*) FROM requests) FROM attempts"))
            return await super().send(model, request)

    def parse(text):
        seen.append(rows(path, "SELECT outcome, (SELECT count(*) FROM responses) FROM attempts"))
        return text

    with open_engine(path, {"testbed": Watching()}) as engine:
        question = Question("q", [{"role": "user", "content": "hi"}], parse)
        engine.ask(ChatModel(model="teacher", base_url="testbed"), "step", [question])
    assert seen == [[(None, 1)], [("committed", 1)]]


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.begin([Call("key", "model", "{}", "step")])
        with pytest.raises(LedgerError, match="another run"), Ledger.open(path):
            pass
        assert rows(path, "SELECT key FROM attempts") == [("key",)]
    with Ledger.open(path) as ledger:
        assert ledger.unknown_attempts == 1


def test_a_committed_response_is_never_overwritten(tmp_path):
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        first, second = ledger.begin([Call("key", "model", "{}", "step")] * 2)
        ledger.finish([(first, "key", Stored(b"first", 1, 2))])
        ledger.finish([(second, "key", Stored(b"second", 3, 4))])
        assert ledger.get("key") == Stored(b"first", 1, 2)


def test_stats_tell_committed_failed_and_unknown_apart(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ids = ledger.begin([Call(key, "model", "{}", "step") for key in ("a", "b", "b", "c")])
        ledger.finish([(ids[0], "a", Stored(b"x", None, None)), (ids[1], "b", "HTTP 500")])
        assert ledger.unknown_attempts == 2  # in flight, as far as the file can tell
    with Ledger.open(path) as ledger:
        assert ledger.unknown_attempts == 2
        assert ledger.stats() == {"requests": 3, "attempts": 4, "committed": 1, "failed": 1, "unknown": 2}
        assert ledger.get("b") is None


def test_a_transaction_that_fails_leaves_nothing_behind(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
            ledger.begin([Call("a", "model", "{}", "step"), Call("b", "model", "{}", None)])  # type: ignore[list-item]
        assert ledger.stats()["attempts"] == ledger.stats()["requests"] == 0
        ledger.begin([Call("a", "model", "{}", "step")])


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="newer version"), Ledger.open(path):
        pass
    assert rows(path, "SELECT name FROM sqlite_master") == []


def test_an_empty_file_is_migrated_and_opened_again(tmp_path):
    path = tmp_path / "new" / "ledger.sqlite"
    for _ in range(2):
        with Ledger.open(path):
            pass
    assert rows(path, "PRAGMA user_version") == [(3,)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize(
    "content", [b"this is a text, and a long one at that" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
def test_a_file_that_is_no_ledger_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"notes\.txt"), Ledger.open(path):
        pass
    assert path.read_bytes() == content


def test_a_folder_in_the_ledgers_place(tmp_path):
    with pytest.raises(LedgerError), Ledger.open(tmp_path):
        pass


MODEL = ChatModel(model="m", base_url="http://here/v1")
MESSAGES = [{"role": "user", "content": "hi"}]


def key(messages=MESSAGES, sample=0, **update) -> str:
    return request_key(build_request(MODEL.model_copy(update=update), messages, sample))


@pytest.mark.parametrize(
    "update",
    [{"concurrency": 3}, {"timeout": 1.0}, {"retries": 0}, {"max_asks": 9}, {"api_key_env": "KEY"}, {"price": None}],
)
def test_the_key_ignores_how_a_call_is_made(update):
    assert key(**update) == key()


def test_the_key_tells_apart_all_that_decides_the_answer():
    keys = [
        key(),
        key(sample=1),
        key([{"role": "system", "content": "hi"}]),
        key([{"role": "user", "content": "hi "}]),
        key(MESSAGES * 2),
        key(model="n"),
        key(sampling=Sampling(temperature=0.5)),
        key(sampling=Sampling(top_p=0.5)),
        key(sampling=Sampling(top_k=5)),
        key(sampling=Sampling(min_p=0.5)),
        key(sampling=Sampling(max_tokens=5)),
        key(chat_template_kwargs={"enable_thinking": False}),
        key(extra_body={"seed": 1}),
    ]
    assert len(set(keys)) == len(keys)
    assert all(k.startswith("sha256:") and len(k) == 71 for k in keys)


if __name__ == "__main__":
    result = ask_all(Path(sys.argv[1]), slow=True)
    Path(sys.argv[2]).write_text(json.dumps(result))
