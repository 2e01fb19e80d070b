"""One `Engine.ask` in rounds: all calls that are missing go in batches together, and what no parser takes goes again.

A run that is interrupted leaves its batches to the server, and takes them in when it is run again. Knows no prompts and
no parsers.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from reward_distiller.balance import Failed, Quarantined
from reward_distiller.config import ChatModel
from reward_distiller.console import say
from reward_distiller.teacher.batch_api import BatchApi
from reward_distiller.teacher.batch_buying import BatchBuyer
from reward_distiller.teacher.ledger import Stored
from reward_distiller.teacher.questions import Answer, Question
from reward_distiller.teacher.reading import Asked, Unusable, ask_for, read_answer

if TYPE_CHECKING:
    from reward_distiller.teacher.engine import Engine

T = TypeVar("T")


class BatchAsking:
    def __init__(self, engine: Engine, model: ChatModel, step: str):
        self.engine, self.model, self.step = engine, model, step

    async def all(self, questions: Sequence[Question[T]]) -> dict[str, Answer[T] | Quarantined | Failed]:
        outcomes: dict[str, Answer[T] | Quarantined | Failed] = {}
        texts: defaultdict[str, list[str]] = defaultdict(list)
        rest = list(questions)
        for number in range(self.model.max_asks):
            calls = [ask_for(self.model, question, number) for question in rest]
            responses = await self._responses({call.key: call for call in calls})
            again = []
            for question, call in zip(rest, calls, strict=True):
                found = self._read(question, call, responses[call.key])
                if isinstance(found, Unusable):
                    texts[question.id].append(found.text)
                    outcomes[question.id] = Quarantined(found.reason, tuple(texts[question.id]))
                    if not found.final:
                        again.append(question)
                else:
                    outcomes[question.id] = found
            rest = again
        return outcomes

    def _read(self, question: Question[T], call: Asked, response: Stored | Failed) -> Answer[T] | Unusable | Failed:
        if isinstance(response, Failed):
            return response
        self.engine.count(self.model, self.step, call.key, response)
        return read_answer(self.model, question, response.body)

    async def _responses(self, calls: dict[str, Asked]) -> dict[str, Stored | Failed]:
        """From the ledger, or bought."""
        known: dict[str, Stored | Failed] = {**self.engine.ledger.get_many(calls)}
        missing = [call for key, call in calls.items() if key not in known]
        if self.engine.offline:
            return known | {call.key: Failed("not in the ledger", gave_up=True) for call in missing}
        if not missing:
            return known
        api = BatchApi(self.model, self.engine.first_backoff)
        buyer = BatchBuyer(self.engine.ledger, self.model, self.step, api, self.engine.budget)
        try:
            return known | await buyer.buy(missing)
        except asyncio.CancelledError:
            say(f"{self.step}: stopped; batches that were handed over go on at the server. Run again to take them in")
            raise
        finally:
            self.engine.bought += buyer.sent
            await api.close()
