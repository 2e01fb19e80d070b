"""Shares of a construction on a Ray cluster: a task each, through Ray Data (extra `ray`).

A task whose worker or node has died is started again elsewhere, and goes on with the share's ledger. Tasks that fail
by an error of ours bring it back and are not tried again. Knows nothing of what a share is.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reward_distiller.errors import ClusterError, MissingExtra
from reward_distiller.recipes.sharded import Done, Job, Workers, work

REACHED_WITHIN = 10.0  # seconds
RESTARTS = 20  # of a task whose worker has died; Ray Data's own default has no end


def on_ray(address: str) -> Workers:
    """Workers of the cluster at an address as `ray.init` takes it: host:port, auto, or local for one on this machine.

    Raises MissingExtra. What it gives raises ClusterError where the cluster is not there or its workers die again and
    again.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error

    def workers(job: Job) -> Iterator[Done]:
        mine = not ray.is_initialized()
        try:
            _knock(address)
            if mine:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            yield from _shares(ray, job)
        except (OSError, ray.exceptions.RayError) as error:
            raise ClusterError(
                f"Ray at {address}: {type(error).__name__}: {str(error).strip()[:500]}. Mend the cluster and run "
                "again: nothing is bought twice"
            ) from error
        finally:
            if mine:
                ray.shutdown()

    return workers


def _knock(address: str) -> None:
    """Raise OSError where nobody listens: Ray would go on trying for many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), REACHED_WITHIN):
            pass


def _shares(ray: Any, job: Job) -> Iterator[Done]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    numbers = ray.data.from_items(list(range(job.shards)), override_num_blocks=job.shards)

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return asdict(work(job, int(row["item"])))

    for row in numbers.map(one, num_cpus=1, max_retries=RESTARTS).iter_rows():
        yield Done(**row)
