"""Looking after a ledger's batches between two runs: taking in what has ended, and cancelling. Asks nothing new."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from reward_distiller.config import ChatModel
from reward_distiller.console import say
from reward_distiller.errors import ConfigError
from reward_distiller.teacher.batch_api import BatchApi
from reward_distiller.teacher.batch_buying import BatchBuyer
from reward_distiller.teacher.budget import Budget
from reward_distiller.teacher.endpoint import check_environment
from reward_distiller.teacher.ledger import Ledger
from reward_distiller.teacher.ledger_batches import Batch, open_batches


def collect(ledger: Ledger, models: Sequence[ChatModel]) -> list[Batch]:
    """Look at every open batch of the models once, and take in what has ended. Gives them as they stand now.

    Raises EndpointError where a batch brought what every call would meet again; what it brought is committed.
    """
    return asyncio.run(_tend(ledger, models, None, cancel=False))


def cancel(ledger: Ledger, models: Sequence[ChatModel], only: str | None = None) -> list[Batch]:
    """Tell the servers to end the open batches, or the one of that id. What is done of them is billed and taken in."""
    return asyncio.run(_tend(ledger, models, only, cancel=True))


async def _tend(ledger: Ledger, models: Sequence[ChatModel], only: str | None, *, cancel: bool) -> list[Batch]:
    tended: list[Batch] = []
    for model in {(m.model, m.base_url): m for m in models if m.batch}.values():
        batches = [b for b in open_batches(ledger, model.model, model.base_url) if only in (None, b.remote)]
        if not batches:
            continue
        check_environment(model)
        api = BatchApi(model)
        buyer = BatchBuyer(ledger, model, "batch", api, Budget([]))
        try:
            for batch in batches:
                if cancel and batch.remote:
                    say(f"batch {batch.remote}: {(await api.cancel(batch.remote)).status}")
                tended.append(await buyer.take_in(batch))
        finally:
            await api.close()
    if only is not None and not tended:
        raise ConfigError(f"no open batch {only!r} of the config's models. `reward-distiller batch list` names them")
    return tended
