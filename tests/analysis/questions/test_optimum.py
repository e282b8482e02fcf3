"""The optimum: what is drawn, which tables there are, and what the command makes of its options."""

from __future__ import annotations

import json
from pathlib import Path

from tests.analysis.report import runs
from tests.analysis.report.runs import written
from tests.bcrit.command import bcrit, refused


def test_batch_sizes_that_were_not_measured_are_predicted(tmp_path: Path) -> None:
    run = written(tmp_path / "run", reached=True, space={**runs.PLANE, "width": "integer from 4 to 64"}, missed=8)
    done = bcrit("optimum", run, "--at", 48, "--at", 4096)
    assert "At batch size 4,096" in done.stdout and "extrapolated" in done.stdout
    found = json.loads(bcrit("optimum", run, "--at", 64, "--at", 100, "--json").stdout)
    assert [point["batch_size"] for point in found["at"]] == [64, 100]
    for point in found["at"]:  # widths stay whole where another study did not reach
        assert all(isinstance(point[part]["width"], int) for part in ("values", "low", "high"))


def test_wrong_options_are_one_message(tmp_path: Path) -> None:
    message = refused(bcrit("optimum", written(tmp_path / "run", reached=True), "--at", -3, "--within", 0))
    assert "2 problems" in message and "'--at' must be a positive batch size" in message
