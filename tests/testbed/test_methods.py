"""The mechanism that the testbed is there to show: what style bias does to a method that learns from sampled pairs."""

from importlib import resources
from pathlib import Path

import pytest

from reward_distiller.config import load_config
from reward_distiller.recipes.demo import METHODS
from reward_distiller.recipes.reward_model import run
from reward_distiller.testbed.parts import TestbedParts


def gap(folder: Path, cache: Path, *changes: str) -> float:
    """How far RM-Distiller's average is above Bradley-Terry's, in points, on a smaller demo."""
    averages = {}
    for method in METHODS:
        overrides = [f"method={method}", f"output={folder / method}", f"ledger={folder / 'ledger.sqlite'}"]
        smaller = ["prompts.testbed.count=2500", "evaluation.testbed_prompts=200", f"testbed.cache={cache}"]
        with resources.as_file(resources.files("reward_distiller.testbed") / "demo.yaml") as path:
            config = load_config(path, [*overrides, *smaller, *changes])
        averages[method] = run(config, TestbedParts(config.testbed, config.seed))["testbed"]["average"]["value"]
    return averages["rm_distiller"] - averages["bradley_terry"]


@pytest.mark.slow
def test_without_style_bias_the_gap_between_the_methods_shrinks(tmp_path):
    biased = gap(tmp_path / "biased", tmp_path / "testbed")
    level = gap(tmp_path / "level", tmp_path / "testbed", "testbed.style_bias=0", "testbed.verbosity_bias=0")
    assert biased > 5
    assert level < biased - 3
