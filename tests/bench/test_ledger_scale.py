"""The bench of large ledgers, on a small one: it measures what it says, and finds what it put in."""

from __future__ import annotations

import json

from bench.ledger_scale import main
from reward_distiller.teacher.ledger import Ledger
from reward_distiller.teacher.ledger_check import check


def test_a_small_ledger_is_built_once_and_measured(tmp_path, capsys):
    for _ in range(2):
        main(["--rows", "1200", "--work", str(tmp_path), "--output", str(tmp_path / "out.json")])
    results = json.loads((tmp_path / "out.json").read_text())
    assert results["build_seconds"] is None  # the second time
    assert len(results["look_ups_a_second"]) == 8
    assert all(rate > 0 for rate in results["look_ups_a_second"].values())
    assert "1200 rows" in capsys.readouterr().out
    with Ledger.read(tmp_path / "ledger-1200.sqlite") as ledger:
        assert ledger.stats() == {"requests": 1200, "attempts": 1200, "committed": 1199, "failed": 0, "unknown": 1}
        assert check(ledger) == []
