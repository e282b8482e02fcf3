"""The figure of doubt shows how far each reached study is off."""

from __future__ import annotations

import pytest

from bcrit.analysis.report.residuals_plot import residuals_plot
from tests.analysis.report import runs


def test_points_are_per_cent_above_the_curve() -> None:
    fit = runs.bent().fit
    assert fit is not None
    figure = residuals_plot(fit)
    (points,) = figure["data"]
    assert points["x"] == [study.batch_size for study in fit.studies]
    assert points["y"] == pytest.approx([100 * ((s.steps or 0) / s.fitted_steps - 1) for s in fit.studies])
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < min(points["y"]) < max(points["y"]) < high


def test_studies_that_were_not_reached_have_no_residual() -> None:
    fit = runs.partly((32, 64, 128)).fit
    assert fit is not None
    assert residuals_plot(fit)["data"][0]["x"] == [32, 64, 128]
