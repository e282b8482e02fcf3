"""What probes measured along the runs that make a study's number: the rows, with the step at which each run crossed."""

from __future__ import annotations

import pandas as pd

from bcrit.analysis.records.run_folder import RunFolder
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.tables import MEASUREMENTS, NOISE_SCALE, WEIGHT_DISTANCE


def probed(
    folder: RunFolder, trials: pd.DataFrame, studies: pd.DataFrame, experiment: Experiment
) -> pd.DataFrame | None:
    """Read the probes' columns of the confirming runs of each study's point.

    Args:
        folder: the run.
        trials: its trials table, with the crossings of the target that is analyzed.
        studies: one row a batch size.
        experiment: says what was probed, and the target.

    Returns:
        One row an evaluation: `trial_id`, `batch_size`, `step`, `crossing` (step; NaN where the run did not reach the
        target), `value` (the target's metric) and the probes' columns, NaN where nothing was measured. None where
        nothing was probed.
    """
    if not experiment.probes.measure:
        return None
    own = trials[(trials["stage"] == "confirm") & trials["repeats"].isin(studies["best_trial"].dropna())]
    columns = [column.name for column in (*NOISE_SCALE, *WEIGHT_DISTANCE)]
    metric = experiment.target.metric
    table = folder.select(MEASUREMENTS, ["trial_id", "step", metric, *columns], set(own["trial_id"]))
    rows = table.to_pandas().rename(columns={metric: "value"})
    runs = own.set_index("trial_id")[["batch_size", "steps_to_target"]].rename(columns={"steps_to_target": "crossing"})
    rows = rows.join(runs, on="trial_id").sort_values(["batch_size", "trial_id", "step"], ignore_index=True)
    numbers = [*columns, "value", "crossing"]
    rows[numbers] = rows[numbers].astype(float)
    return rows if rows[columns].notna().to_numpy().any() else None


__all__ = ["probed"]
