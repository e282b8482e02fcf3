"""From a run folder's tables to its analysis, recommendation and report, written into the folder."""

from __future__ import annotations

from analysis.analyze import RunAnalysis, analyze, write_analysis
from analysis.recommend import Recommendation, recommend
from analysis.report.build import build_report
from analysis.run_folder import RECOMMENDATION, REPORT, RunFolder
from analysis.step_time import fit_step_times
from search_spaces.tables import MEASUREMENTS


def finish(folder: RunFolder) -> tuple[RunAnalysis, Recommendation | None]:
    """Compute and write everything that follows from the tables.

    Args:
        folder: a run with finished trials.

    Returns:
        The analysis, and the recommendation where there is a curve.
    """
    analysis = analyze(folder)
    write_analysis(folder, analysis)
    recommendation = recommend_run(analysis)
    if recommendation is not None:
        folder.write_json(RECOMMENDATION, recommendation.to_json())
    page = build_report(analysis, recommendation, folder.read(MEASUREMENTS))
    folder.write_bytes(REPORT, page.encode())
    return analysis, recommendation


def recommend_run(analysis: RunAnalysis) -> Recommendation | None:
    """The recommendation without limits or prices; None where there is no curve."""
    if analysis.fit is None:
        return None
    return recommend(
        analysis.fit,
        fit_step_times(analysis.studies[["batch_size", "step_seconds"]]),
        hyperparameters=analysis.hyperparameters,
    )
