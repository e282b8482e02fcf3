"""What is computed once: the analysis, the near-optimal sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bcrit import finish
from bcrit.analysis import analyze
from bcrit.analysis.optimum import optimum
from bcrit.analysis.run_folder import RECOMMENDATION, REPORT, RunFolder
from bcrit.analysis.sensitivity import sensitivity
from bcrit.recommend import recommend
from bcrit.search_spaces.problems import InputError
from tests.bcrit.test_hyperparameters import written


def counting(calls: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*given: Any, **named: Any) -> Any:
        calls.append(name)
        return function(*given, **named)

    return counted


def test_the_near_optimal_sets_are_found_once_for_the_recommendation_and_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for module in (optimum, sensitivity):
        monkeypatch.setattr(module, "near_optimal_sets", counting(calls, "sets", module.near_optimal_sets))
    folder = RunFolder.at(written(tmp_path / "run", reached=True))
    _, recommendation = finish.finish(folder)
    assert recommendation is not None and folder.has(RECOMMENDATION) and folder.has(REPORT)
    assert calls == ["sets"]


def test_a_run_without_a_curve_is_analyzed_once_before_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(analyze, "analyze", counting(calls, "analyze", analyze.analyze))
    with pytest.raises(InputError, match="nothing to recommend from: a curve needs 2 batch sizes"):
        recommend(str(written(tmp_path / "run", reached=False)))
    assert calls == ["analyze"]
