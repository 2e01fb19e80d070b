"""What a process took so far, as Linux counts it. Standard library only: every environment reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path


def peak_memory_mb() -> float:
    """Most resident memory of this process since its program was started: VmHWM.

    getrusage would count what its parent had.
    """
    text = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+([0-9]+) kB$", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


def cpu_seconds(pid: int) -> float:
    """Of all its threads, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
