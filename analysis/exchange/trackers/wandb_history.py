"""Histories of Weights & Biases runs: one file a run, one long table of all runs, or the table behind a chart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bcrit.analysis.exchange.text_files import read_cells
from bcrit.search_spaces.problems import InputError

_SUFFIXES = (".csv", ".parquet")
_RUN_COLUMNS = ("run_id", "run_name", "run", "Name", "name", "id", "run.id", "run.name")
_BETWEEN = " - "  # run and metric in the header of a chart's table
_SPREAD = ("__MIN", "__MAX")


def read_histories(path: Path) -> dict[str, pd.DataFrame]:
    """Read histories.

    Args:
        path: a folder with one CSV or Parquet file a run, named like the run or its id, as `run.history()` gives it; or
            one file of all runs with a column for the run (`run_id`, `run`, `name` ...); or the CSV of a chart, whose
            columns are named `RUN - METRIC`.

    Returns:
        What each run logged, one row a call of `log`, by name or id of the run; None where it logged nothing.

    Raises:
        InputError: there is none, or it is of none of these forms.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise InputError(str(path), ["it holds no CSV or Parquet file"])
        return {file.stem: read_cells(file) for file in files}
    cells = read_cells(path)
    column = next((name for name in _RUN_COLUMNS if name in cells), None)
    if column is not None:
        groups = cells.dropna(subset=[column]).groupby(column, sort=False)
        found = {str(run): rows.drop(columns=column).reset_index(drop=True) for run, rows in groups}
    else:
        found = _of_chart(cells)
    if not found:
        wanted = f"a column for the run ({', '.join(_RUN_COLUMNS)}), or columns named RUN{_BETWEEN}METRIC"
        there = ", ".join(map(str, cells.columns[:10]))
        raise InputError(str(path), [f"a history of several runs has {wanted}, but its columns are {there}"])
    return found


def _of_chart(cells: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split the table behind a chart: its first column is the axis; the spread of grouped runs is left out."""
    axis = str(cells.columns[0])
    found: dict[str, pd.DataFrame] = {}
    for name in cells.columns[1:]:
        run, between, metric = str(name).rpartition(_BETWEEN)
        if not between or metric.endswith(_SPREAD):
            continue
        of_run = found.setdefault(run, cells[[axis]].copy())
        of_run[metric] = cells[name]
    return found


__all__ = ["read_histories"]
