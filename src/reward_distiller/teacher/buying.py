"""One call, bought: a turn at an endpoint, its row in the ledger, the request, what came back in the ledger; again
where the server may answer another time.

The row is committed before the request is sent and the raw body before anything reads it, so a committed answer is
never bought again. Where an answer was lost on its way nobody knows whether it is billed, and it counts as if it were.
Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from reward_distiller.balance import Failed
from reward_distiller.config import ChatModel
from reward_distiller.errors import ConfigError, EndpointError
from reward_distiller.teacher.commits import Commits
from reward_distiller.teacher.cost import NOTHING, Cost, cost_of_call
from reward_distiller.teacher.endpoint import Overloaded, Refused, Transport, store
from reward_distiller.teacher.http_client import Retry, backoff
from reward_distiller.teacher.ledger import Call, Lost, Outcome, Stored
from reward_distiller.teacher.turns import Turn, Turns
from reward_distiller.teacher.worst_case import worst_case

PUSH_BACKS = 100  # of one request; they are the server's way to say "later" and use up no retry, but not for ever


class Buyer:
    """Buys the calls of one step. `places` are the model's endpoints by name. `stop` ends all but what is in flight."""

    def __init__(
        self,
        model: ChatModel,
        step: str,
        places: Mapping[str, ChatModel],
        transport_of: Mapping[str, Transport],
        turns: Turns,
        commits: Commits,
        first_backoff: float,
    ):
        self.model, self.step = model, step
        self._places, self._transports = places, transport_of
        self._turns, self._commits = turns, commits
        self._first_backoff = first_backoff
        self.sent = self.in_flight = 0
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def stop(self) -> None:
        self._stopping.set()

    async def buy(self, key: str, text: str, request: dict[str, Any]) -> Stored | Failed:
        """The committed answer, or why there is none. `text` is the request as canonical JSON.

        Raises EndpointError and BudgetReached.
        """
        worst = worst_case(request)
        if worst.input is None or worst.output is None:
            raise ConfigError(
                f"model {self.model.model!r}: what a request may cost is unknown. Set sampling.max_tokens"
            )
        call = Call(key, self.model.model, text, self.step, *worst)
        most = cost_of_call(self.model.price, worst.input, worst.output)
        retries = pushes = 0
        while not self.stopping:
            turn = await self._turns.next(most)
            attempt = await self._commits.begin(call)
            if self.stopping:
                self._turns.failed(turn, NOTHING, reached=True)
                await self._commits.finish(attempt, key, "stopped before it was sent")
                break
            try:
                return await self._attempt(turn, attempt, key, request)
            except Overloaded as error:
                pushes += 1
                reason, given_up = str(error), pushes > PUSH_BACKS
                backoff = 0.0 if error.after is not None else self._backoff(min(pushes, 3))  # the endpoint pauses
            except Retry as error:
                retries += 1
                reason, given_up = str(error), retries > self.model.retries
                backoff = self._backoff(retries)
            if self._turns.all_unreachable:
                raise EndpointError(
                    f"model {self.model.model!r}: {', '.join(self._places)} does not answer ({reason}). Start the "
                    "server or mend base_url, then run again: no answer is bought twice"
                )
            if given_up:
                return Failed(f"{reason}, {retries + pushes} attempts", gave_up=True)
            await self._pause(backoff)
        return Failed("stopped")

    async def _attempt(self, turn: Turn, attempt: int, key: str, request: dict[str, Any]) -> Stored | Failed:
        """Send once. The turn is given back and the outcome committed whatever comes."""
        place = turn.taken.endpoint
        self.sent += 1
        self.in_flight += 1
        outcome: Outcome
        try:
            stored = store(await self._transports[place].send(self._places[place], request))
        except Refused as error:
            self._turns.answered(turn, NOTHING)
            await self._commits.finish(attempt, key, str(error))
            return Failed(str(error))
        except EndpointError as error:
            self._turns.failed(turn, NOTHING, reached=True)
            await self._commits.finish(attempt, key, str(error))
            raise
        except Overloaded as error:
            self._turns.pushed_back(turn, error.after)
            await self._commits.finish(attempt, key, str(error))
            raise
        except Retry as error:
            outcome = Lost(str(error)) if error.lost else str(error)
            self._turns.failed(turn, None if error.lost else NOTHING, reached=error.reached)
            await self._commits.finish(attempt, key, outcome)
            raise
        except asyncio.CancelledError:  # called off when the run stops: its row stays open, its cost is the worst
            self._turns.failed(turn, None, reached=True)
            raise
        finally:
            self.in_flight -= 1
        self._turns.answered(turn, self._cost(stored))
        await self._commits.finish(attempt, key, stored)
        return stored

    def _cost(self, stored: Stored) -> Cost | None:
        """None where the server did not say what it counts: then it is the worst case."""
        if stored.input_tokens is None or stored.output_tokens is None:
            return None
        return cost_of_call(self.model.price, stored.input_tokens, stored.output_tokens)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _backoff(self, failures: int) -> float:
        return backoff(self._first_backoff, failures)
