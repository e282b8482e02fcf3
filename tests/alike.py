"""Whether two runs of one experiment came to the same: every row, but for what the clock and the machine say."""

from pathlib import Path

import pandas as pd

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.tables import MEASUREMENTS, TRIALS

TIMES = ["train_seconds", "evaluate_seconds", "started_at", "ended_at", "memory", "host", "node"]
Tables = tuple[pd.DataFrame, pd.DataFrame]


def tables(place: Path | RunFolder) -> Tables:
    """Trials and measurements in order of their names."""
    run = place if isinstance(place, RunFolder) else RunFolder.at(place)
    trials = run.read(TRIALS).to_pandas().drop(columns=TIMES).sort_values("trial_id", ignore_index=True)
    curves = run.read(MEASUREMENTS).to_pandas().drop(columns="train_seconds")
    return trials, curves.sort_values(["trial_id", "step"], ignore_index=True)


def assert_alike(expected: Tables, place: Path | RunFolder) -> None:
    """No row is lost, doubled or different."""
    for ours, found in zip(expected, tables(place), strict=True):
        pd.testing.assert_frame_equal(ours, found[ours.columns])
