"""The benchmarks of reward models, one file each, under one protocol. A new one is a file here and a line below."""

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.benchmarks import rm_bench
from reward_distiller.evaluate.benchmarks.protocol import Benchmark

BENCHMARKS: dict[str, Benchmark] = {module.BENCHMARK.name: module.BENCHMARK for module in (rm_bench,)}


def benchmark_named(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise ConfigError(f"benchmark: {name!r} is none of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
