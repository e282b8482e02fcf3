"""From a run folder's tables to its analysis, recommendation and report, written into the folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bcrit.analysis.analyze import RunAnalysis, analyze, write_analysis
from bcrit.analysis.optimum.optimum import OptimumLaws, optimum_laws
from bcrit.analysis.recommendation.hardware import Hardware
from bcrit.analysis.recommendation.recommend import Recommendation, recommend
from bcrit.analysis.recommendation.step_time import StepTimes, trial_step_times
from bcrit.analysis.report.build import build_report
from bcrit.analysis.report.curves_plot import drawn_runs
from bcrit.analysis.run_folder import RECOMMENDATION, REPORT, RunFolder
from bcrit.search_spaces.tables import MEASUREMENTS


def finish(folder: RunFolder) -> tuple[RunAnalysis, Recommendation | None]:
    """Compute and write everything that follows from the tables.

    Args:
        folder: a run with finished trials.

    Returns:
        The analysis, and the recommendation where there is a curve.
    """
    analysis = analyze(folder)
    write_analysis(folder, analysis)
    laws = _laws(analysis)
    recommendation = recommend_run(analysis, laws=laws)
    if recommendation is not None:
        folder.write_json(RECOMMENDATION, recommendation.to_json())
    columns = [*MEASUREMENTS.names, analysis.experiment.target.metric]
    curves = folder.select(MEASUREMENTS, columns, drawn_runs(analysis))
    page = build_report(analysis, recommendation, curves, laws)
    folder.write_bytes(REPORT, page.encode())
    return analysis, recommendation


def recommend_run(
    analysis: RunAnalysis,
    step_times: StepTimes | Sequence[Hardware] | None = None,
    laws: OptimumLaws | None = None,
    **limits: Any,
) -> Recommendation | None:
    """The recommendation from a run; None where there is no curve.

    Args:
        analysis: of the run.
        step_times: seconds a step, or several kinds of hardware; None = as the run measured them.
        laws: of the optimum, where they were computed before; None computes them.
        limits: prices, devices and budgets of `bcrit.analysis.recommendation.recommend`.

    Returns:
        The recommendation.
    """
    if analysis.fit is None:
        return None
    return recommend(
        analysis.fit,
        trial_step_times(analysis.trials) if step_times is None else step_times,
        hyperparameters=analysis.hyperparameters,
        laws=_laws(analysis) if laws is None else laws,
        target=str(analysis.experiment.target),
        **limits,
    )


def _laws(analysis: RunAnalysis) -> OptimumLaws:
    return optimum_laws(analysis.trials, analysis.studies, analysis.boundary, analysis.experiment)
