"""How many processes a launcher (`accelerate launch`, `torchrun`) has started, and which of them this one is.

Read from the environment that launchers set, so that asking costs nothing and starts nothing.
"""

from __future__ import annotations

import os

PARENT_PIPE = "REWARD_DISTILLER_PARENT_PIPE"  # set for a process whose stdin is a pipe that its parent holds open


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process speaks, writes and holds locks for all."""
    return int(os.environ.get("RANK", "0")) == 0


def has_siblings() -> bool:
    """Whether a command of ours started this process among others; they wait for each other where they share files."""
    return PARENT_PIPE in os.environ
