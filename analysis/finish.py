"""What follows from a run's tables, written into its folder: derived tables, fit, recommendation, report."""

from __future__ import annotations

import pyarrow as pa

from bcrit.analysis.records.run_folder import (
    BOUNDARY_FILE,
    BUDGET_CELLS_FILE,
    BUDGETS,
    FIT,
    RECOMMENDATION,
    REPORT,
    STEPS_TO_TARGET_FILE,
    TARGET_CELLS_FILE,
    TARGETS,
    RunFolder,
)
from bcrit.analysis.report.build import build_report
from bcrit.analysis.run import Run


def finish(folder: RunFolder) -> Run:
    """Compute and write everything that follows from the tables of a run with finished trials."""
    run = Run(folder)
    write_analysis(run)
    if run.recommendation is not None:
        folder.write_json(RECOMMENDATION, run.recommendation.to_json())
    folder.write_bytes(REPORT, build_report(run).encode())
    return run


def write_analysis(run: Run) -> None:
    """Write the derived tables and the fit into the run folder."""
    folder = run.folder
    for name, frame in ((STEPS_TO_TARGET_FILE, run.studies), (BOUNDARY_FILE, run.boundary)):
        folder.write_table(name, pa.Table.from_pandas(frame, preserve_index=False))
    folder.write_json(FIT, {"no_fit": run.no_fit} if run.fit is None else run.fit.to_json())
    if run.targets is not None:
        folder.write_table(TARGET_CELLS_FILE, pa.Table.from_pandas(run.targets.cells, preserve_index=False))
        folder.write_json(TARGETS, run.targets.to_json())
    if run.budgets is not None:
        folder.write_table(BUDGET_CELLS_FILE, pa.Table.from_pandas(run.budgets.cells, preserve_index=False))
        folder.write_json(BUDGETS, run.budgets.to_json())
