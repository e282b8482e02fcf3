"""Learning curves are those of the runs that made the numbers, thinned out."""

from __future__ import annotations

import pytest

from bcrit.analysis.questions.curves import curves_plot, drawn_runs
from bcrit.search_spaces.outcome import Outcome
from tests.analysis.report import runs


def test_one_line_for_each_confirming_run_and_one_name_for_each_batch_size() -> None:
    analysis = runs.usual()
    figure = curves_plot(analysis, runs.curves(analysis))
    assert figure is not None
    assert len(figure["data"]) == 3 * len(analysis.studies)
    named = [trace["name"] for trace in figure["data"] if trace["showlegend"]]
    assert named == [f"batch size {b}" for b in (8, 16, 32, 64, 128, 256)]
    assert figure["data"][0]["x"][-1] == 180
    assert figure["data"][0]["y"][-1] == pytest.approx(10 ** (1 - 20 / 19.5), rel=1e-3)
    assert figure["layout"]["shapes"][0]["y0"] == 1


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    analysis = runs.widened()
    figure = curves_plot(analysis, runs.curves(analysis, evaluations=2000))
    assert figure is not None
    (line,) = figure["data"]
    assert line["x"][0] == 1
    assert line["x"][-1] == 90
    analysis = runs.analysis_of(
        spec := runs.experiment(), runs.study(spec, 8) + [runs.trial(spec, 16, 0, Outcome.REACHED, 40_000)]
    )
    figure = curves_plot(analysis, runs.curves(analysis, evaluations=5000))
    assert figure is not None
    assert max(len(trace["x"]) for trace in figure["data"]) <= 300


def test_without_the_metric_or_without_runs_there_is_no_figure() -> None:
    analysis = runs.usual()
    assert curves_plot(analysis, runs.curves(analysis).drop_columns(["loss"])) is None
    assert curves_plot(runs.partly(()), runs.curves(runs.partly(()))) is None


def test_many_runs_and_thinned_curves_are_said_in_the_figure() -> None:
    spec = runs.experiment(batch_sizes=(8, 16))
    rows = [row for b in spec.batch_sizes for row in runs.study(spec, b)]
    for b in spec.batch_sizes:
        best = next(row["repeats"] for row in rows if row["batch_size"] == b and row["repeats"])
        more = {"stage": "confirm", "repeats": best}
        rows += [runs.trial(spec, b, number, Outcome.REACHED, 90, **more) for number in range(3, 120)]
    analysis = runs.analysis_of(spec, rows)
    figure = curves_plot(analysis, runs.curves(analysis))
    assert figure is not None
    assert len(figure["data"]) == 150 == len(drawn_runs(analysis))
    assert "150 of 240 runs drawn" in figure["layout"]["annotations"][0]["text"]
