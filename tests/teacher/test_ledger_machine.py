"""Whatever is done to a ledger, in any order: no answer changes, no attempt is lost, and it is sound."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from ledgers import call

from reward_distiller.teacher.ledger import Ledger, Stored
from reward_distiller.teacher.ledger_check import check
from reward_distiller.teacher.ledger_exchange import export_answers, import_answers
from reward_distiller.teacher.ledger_prune import Choice, prune
from reward_distiller.teacher.ledger_report import report

texts = st.sampled_from("abcd")
bodies = st.binary(max_size=3)
steps = st.sampled_from(["draw", "score"])


class Calls(RuleBasedStateMachine):
    """Beside the ledger, what it must hold: every attempt as [text, step, outcome], and the answers by text."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "ledger.sqlite"
        self.attempts: dict[int, list] = {}
        self.answers: dict[str, tuple[Stored, int]] = {}
        with Ledger.open(self.path):
            pass

    def teardown(self):
        self.folder.cleanup()

    @rule(text=texts, step=steps, outcome=st.none() | bodies | st.just("HTTP 500"))
    def ask(self, text, step, outcome):
        """As a run does: what is answered is not asked."""
        with Ledger.open(self.path) as ledger:
            if ledger.get(call(text).key) is not None:
                return
            [attempt] = ledger.begin([call(text, step=step)])
            stored = Stored(outcome, 1, 2) if isinstance(outcome, bytes) else outcome
            if stored is not None:
                ledger.finish([(attempt, call(text).key, stored)])
        kind = {bytes: "committed", str: "failed", type(None): None}[type(outcome)]
        self.attempts[attempt] = [text, step, kind]
        if isinstance(stored, Stored):
            self.answers[text] = stored, attempt

    @rule(given=st.lists(st.tuples(texts, bodies), max_size=3))
    def take_in(self, given):
        with Ledger.open(self.path) as ledger:
            before = ledger.stats()["attempts"]
            taken = ledger.take_in((call(text, step="imported"), body) for text, body in given)
            ids = [row[0] for row in ledger.rows("SELECT id FROM attempts ORDER BY id DESC LIMIT ?", taken.added)][::-1]
            assert ledger.stats()["attempts"] == before + taken.added
        new = {text: body for text, body in reversed(given) if text not in self.answers}
        assert (taken.added, taken.kept) == (len(new), len(given) - len(new))
        order = list(dict.fromkeys(text for text, _ in given if text in new))
        for attempt, text in zip(ids, order, strict=True):
            self.attempts[attempt] = [text, "imported", "imported"]
            self.answers[text] = Stored(new[text], 0, 0), attempt

    @rule(step=st.none() | steps, failed=st.booleans(), unknown=st.booleans())
    def prune(self, step, failed, unknown):
        choice = Choice(step=step, failed=failed, unknown=unknown)
        if choice == Choice():
            return
        with Ledger.open(self.path) as ledger:
            prune(ledger, choice)
        wanted = {*(["failed"] if failed else []), *([None] if unknown else [])} or {"committed", "imported", "failed"}
        gone = {n for n, (_, of, outcome) in self.attempts.items() if outcome in wanted and step in (None, of)}
        self.attempts = {n: row for n, row in self.attempts.items() if n not in gone}
        self.answers = {text: found for text, found in self.answers.items() if found[1] not in gone}

    @rule()
    def hand_on(self):
        """All answers to another ledger, and back: there they are new, here they are known."""
        lines = self.path.with_name("lines.jsonl")
        with Ledger.read(self.path) as ledger:
            count = export_answers(ledger, lines)
        assert count == len(self.answers)
        if count:
            with Ledger.open(self.path) as ledger:
                taken = import_answers(ledger, lines)
            assert (taken.added, taken.kept, taken.differing) == (0, count, 0)

    @invariant()
    def holds_what_it_must(self):
        with Ledger.read(self.path) as ledger:
            assert check(ledger) == []
            found = ledger.get_many(call(text).key for text in "abcd")
            total = report(ledger).lines[-1]
        assert found == {call(text).key: stored for text, (stored, _) in self.answers.items()}
        outcomes = [outcome for _, _, outcome in self.attempts.values()]
        assert total.attempts == len(outcomes)
        for name, outcome in (("committed",) * 2, ("imported",) * 2, ("failed",) * 2, ("unknown", None)):
            assert getattr(total, name) == outcomes.count(outcome)
        assert total.input_tokens == outcomes.count("committed")
        assert total.worst_input == 1000 * outcomes.count(None)


Calls.TestCase.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)
test_calls = Calls.TestCase
