"""The benchmarks of policies, one file each, under one protocol. A new one is a file here and a line below."""

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.policy import alpaca_eval, cf_bench, follow_bench
from reward_distiller.evaluate.policy.protocol import PolicyBenchmark

_ALL: tuple[PolicyBenchmark, ...] = (alpaca_eval.BENCHMARK, follow_bench.BENCHMARK, cf_bench.BENCHMARK)
POLICY_BENCHMARKS: dict[str, PolicyBenchmark] = {benchmark.name: benchmark for benchmark in _ALL}


def policy_benchmark_named(name: str) -> PolicyBenchmark:
    if name not in POLICY_BENCHMARKS:
        raise ConfigError(f"benchmark: {name!r} is none of {', '.join(POLICY_BENCHMARKS)}")
    return POLICY_BENCHMARKS[name]
