"""The machine: Python, the libraries, CUDA, memory and disks. Knows no config but the places that it is given."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from reward_distiller.recipes.doctor.findings import Finding, ok, problem, warning

GIB = 2**30
PACKAGE = "reward-distiller"
LIBRARIES = ("torch", "transformers", "accelerate")
LOW_DISK, NO_DISK = 10 * GIB, GIB // 2  # a reward model of 3 billion takes 12 GB; a ledger of 100,000 calls half a GiB
LOW_MEMORY = 4 * GIB  # what torch, transformers and a small student take


def check_machine(output: Path, cache: Path = Path(HF_HUB_CACHE)) -> Iterator[Finding]:
    yield _python()
    yield from map(_library, LIBRARIES)
    yield from _cuda()
    yield _memory()
    yield _disk("disk of the output", output)
    yield _disk("disk of the Hub's cache", cache)


def available_memory() -> int:
    """Bytes that a process can still take here: what the kernel says, or less where a container has a limit."""
    found = [_of_kernel()]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # there is none, or it is `max`
            continue
    return max(0, min(found))


def nearest(path: Path) -> Path:
    """The path, or the closest folder above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"


def _of_kernel() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 2**63


def _python() -> Finding:
    wanted, have = ">=3.11", platform.python_version()
    if have in SpecifierSet(wanted, prereleases=True):
        return ok("python", have)
    return problem("python", f"{have}, and {wanted} is needed", "Make an environment with a newer one")


def _library(name: str) -> Finding:
    have = importlib.metadata.version(name)
    wanted = _wanted().get(name)
    if wanted is not None and have not in wanted:
        return problem(name, f"{have}, and {wanted} is needed", f"pip install '{name}{wanted}'")
    return ok(name, have)


def _wanted() -> dict[str, SpecifierSet]:
    try:
        given = map(Requirement, importlib.metadata.requires(PACKAGE) or ())
        return {r.name: SpecifierSet(str(r.specifier), prereleases=True) for r in given if r.marker is None}
    except importlib.metadata.PackageNotFoundError:  # run from its source
        return {}


def _cuda() -> Iterator[Finding]:
    driver = Path("/proc/driver/nvidia/version")
    said = driver.read_text().splitlines()[0].partition("Module")[2].split() if driver.is_file() else []
    version = next((word for word in said if word[:1].isdigit()), None)
    if not torch.cuda.is_available():
        if version:
            yield warning(
                "cuda",
                f"a driver {version} is there, and torch {torch.__version__} cannot use it",
                "Install a torch built for CUDA of that driver, or look at CUDA_VISIBLE_DEVICES",
            )
        else:
            yield ok("cuda", "none; the CPU is used")
        return
    yield ok("cuda", f"torch is built for {torch.version.cuda}, driver {version or 'unknown'}")
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        found = f"{torch.cuda.get_device_name(number)}, {gib(free)} of {gib(total)} free"
        if free < total / 2:
            yield warning(f"cuda:{number}", found, "Somebody else uses it; wait, or choose with CUDA_VISIBLE_DEVICES")
        else:
            yield ok(f"cuda:{number}", found)


def _memory() -> Finding:
    free = available_memory()
    if free < LOW_MEMORY:
        return warning("memory", f"{gib(free)} available", "End what is not needed")
    return ok("memory", f"{gib(free)} available")


def _disk(check: str, path: Path) -> Finding:
    free = shutil.disk_usage(nearest(path)).free
    found = f"{gib(free)} free at {path}"
    if free < NO_DISK:
        return problem(check, found, "Make room, or choose another place")
    if free < LOW_DISK:
        return warning(check, found, "A ledger and checkpoints may not fit; make room")
    return ok(check, found)
