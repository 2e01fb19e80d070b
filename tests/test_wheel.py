"""The wheel holds all that the package needs: built, installed into an empty folder, and run from there."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_runs_without_the_repository(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", ROOT]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    script = (
        "import reward_distiller, sys; assert reward_distiller.__file__.startswith(sys.argv.pop(1)), 'not the wheel';"
        "from reward_distiller.cli.entry import entry; entry()"
    )
    smaller = ["prompts.testbed.count=30", "testbed.pretrain_steps=3", "evaluation.testbed_prompts=10"]
    small = [*smaller, "training.epochs=1", "testbed.cache=testbed"]
    done = subprocess.run(
        [sys.executable, "-c", script, str(site), "demo", "--output", "demo", *small],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rm_distiller" in done.stdout
    assert (tmp_path / "demo" / "results.json").exists()
