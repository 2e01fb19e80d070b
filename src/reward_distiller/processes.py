"""How many processes a launcher (`accelerate launch`, `torchrun`) has started, and which of them this one is.

Read from the environment that launchers set, so that asking costs nothing and starts nothing.
"""

from __future__ import annotations

import os


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process speaks, writes and holds locks for all."""
    return int(os.environ.get("RANK", "0")) == 0
