"""The machine: how fast it multiplies matrices right now, how much memory this process took at most, what it is.

Needs torch and nothing of ours: TRL's side uses it too.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIZES = (1024, 2048, 4096)  # the best of them: which one is differs between machines


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def matmul_peak(device: str, bf16: bool, threads: int, tries: int = 3) -> float:
    """Floating-point operations a second (2 n³ for n × n by n × n), the best of sizes and tries."""
    torch.set_num_threads(threads)
    best = 0.0
    for n in SIZES if not device.startswith("cuda") else (*SIZES, 8192):
        a = torch.randn(n, n, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
        torch.mm(a, a)
        for _ in range(tries):
            synchronize(device)
            start = time.perf_counter()
            torch.mm(a, a)
            synchronize(device)
            best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def peak_memory_mb(device: str) -> float:
    """Most memory of this process so far: resident (VmHWM), or on the GPU what torch had allocated."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


class Slots:
    """Counts the token slots that go through a model, padding included, and the keys they attend to causally."""

    def __init__(self, model: Any):
        self.slots = self.attended = 0
        model.get_input_embeddings().register_forward_pre_hook(self._count)

    def _count(self, _module: Any, arguments: tuple[Any, ...]) -> None:
        rows, length = arguments[0].shape
        self.slots += rows * length
        self.attended += rows * length * (length + 1) // 2

    def measure(self, work: Callable[[], dict[str, Any]], device: str) -> dict[str, Any]:
        """What one block took, and what `work` says of it."""
        stop = self.start(device)
        found = work()
        return {**stop(), **found}

    def start(self, device: str) -> Callable[[], dict[str, float]]:
        """Start the clock. What comes back stops it: seconds, CPU seconds of all threads, slots and keys."""
        synchronize(device)
        before = (time.perf_counter(), time.process_time(), self.slots, self.attended)

        def stop() -> dict[str, float]:
            synchronize(device)
            after = (time.perf_counter(), time.process_time(), self.slots, self.attended)
            names = ("seconds", "cpu_seconds", "slots", "attended")
            return {name: b - a for name, a, b in zip(names, before, after, strict=True)}

        return stop


def facts(device: str) -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "gpu": torch.cuda.get_device_name() if device.startswith("cuda") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
