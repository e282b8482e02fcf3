"""What is computed once, and what is not computed at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcrit.analysis.finish import finish
from bcrit.analysis.measured import measured
from bcrit.analysis.optimum.near_optimal import near_optimal_sets
from bcrit.analysis.records.run_folder import RECOMMENDATION, REPORT, RunFolder
from bcrit.analysis.run import Run
from tests.analysis.report.runs import written


def counting(calls: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*given: Any, **named: Any) -> Any:
        calls.append(name)
        return function(*given, **named)

    return counted


def test_the_near_optimal_sets_and_the_curves_are_read_once_for_all_that_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("bcrit.analysis.run.near_optimal_sets", counting(calls, "sets", near_optimal_sets))
    monkeypatch.setattr("bcrit.analysis.run.measured", counting(calls, "curves", measured))
    folder = RunFolder.at(written(tmp_path / "run", reached=True))
    found = finish(folder)
    assert found.recommendation is not None and folder.has(RECOMMENDATION) and folder.has(REPORT)
    assert sorted(calls) == ["curves", "sets"]


def test_a_recommendation_reads_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr("bcrit.analysis.run.measured", counting(calls, "curves", measured))
    assert Run(RunFolder.at(written(tmp_path / "run", reached=True))).recommendation is not None
    assert calls == []
