"""The benchmarks of reward models, one file each, under one protocol. A new one is a file here and a line below."""

from reward_distiller.errors import ConfigError
from reward_distiller.evaluate.benchmarks import (
    autoj,
    evalbiasbench,
    hh_rlhf,
    ifbench,
    judgebench,
    llmbar,
    own,
    pandalm,
    prometheus,
    rewardbench,
    rewardbench2,
    rm_bench,
    rmb,
)
from reward_distiller.evaluate.benchmarks.protocol import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        rewardbench.BENCHMARK,
        rewardbench2.BENCHMARK,
        rm_bench.BENCHMARK,
        rmb.BENCHMARK,
        evalbiasbench.BENCHMARK,
        ifbench.BENCHMARK,
        llmbar.BENCHMARK,
        judgebench.BENCHMARK,
        hh_rlhf.BENCHMARK,
        autoj.BENCHMARK,
        pandalm.BENCHMARK,
        prometheus.BENCHMARK,
        own.PAIRS,
        own.BEST_OF_N,
    )
}


def benchmark_named(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise ConfigError(f"benchmark: {name!r} is none of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
