"""The curve of a logged run: the reports of the target's metric, by optimizer updates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bcrit.analysis.exchange.imported_run import Notes
from bcrit.analysis.exchange.trackers.names import Names, Reading
from bcrit.analysis.exchange.trackers.run import SECONDS, LoggedRun
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.target import Target


def curve(run: LoggedRun, names: Names, reading: Reading, batch_size: int, notes: Notes) -> pd.DataFrame:
    """The evaluations of a run, in order of step and one a step.

    A counter that falls back means that the run was begun again: what it then reported stands for what came before. A
    report without a counter has that of the report before it.

    Args:
        run: as logged.
        names: its counter.
        reading: what a count is, and the metric.
        batch_size: of the run.
        notes: for what is left out.

    Returns:
        Columns `step` (whole updates), `train_seconds` (NaN where not known), then the metrics.
    """
    metric = reading.target.metric
    log = run.log
    if metric not in log.columns or names.counter not in log.columns:
        return pd.DataFrame({"step": np.zeros(0, dtype=np.int64), SECONDS: np.zeros(0)})
    count = log[names.counter].ffill()
    usable = log[metric].notna() & (count >= 0)
    notes.add(f"Reports without a number for '{metric}' were left out", int(log[metric].isna().sum()))
    notes.add(f"Reports before any '{names.counter}' were left out", int((log[metric].notna() & ~(count >= 0)).sum()))
    step = (count[usable] * reading.steps(batch_size)).round().to_numpy()
    later = np.minimum.accumulate(np.append(step, np.inf)[::-1])[::-1][1:]
    stands = step < later
    notes.add("Reports that a later one at the same or an earlier step replaces", int((~stands).sum()), run.name)
    kept = log[usable][stands]
    seconds = kept[SECONDS].to_numpy() if SECONDS in kept else np.full(len(kept), np.nan)
    metrics = kept.drop(columns=[names.counter, SECONDS], errors="ignore")
    times = {"step": step[stands].astype(np.int64), SECONDS: seconds}
    return pd.concat([pd.DataFrame(times, index=kept.index), metrics], axis=1).reset_index(drop=True)


def ending(run: LoggedRun, evaluations: pd.DataFrame, target: Target, notes: Notes) -> dict[str, Any]:
    """How a run ended, as far as the curve does not say it itself: columns `outcome` and `message`.

    Args:
        run: what its tracker says.
        evaluations: its curve.
        target: what "reached" means.
        notes: for what is decided here.
    """
    values = evaluations.get(target.metric, pd.Series(dtype=float))
    reached = target.first_crossing(zip(evaluations["step"], values, strict=True)) is not None
    outcome, message = run.outcome, run.message
    broken = target.metric in run.broken
    if reached and (broken or outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY)):
        notes.add("Runs that failed or diverged after they had reached the target count as reached", 1, run.name)
        outcome, message = None, message or f"the last '{target.metric}' was not finite"
    elif broken and outcome is not Outcome.OUT_OF_MEMORY:
        outcome, message = Outcome.DIVERGED, f"the last '{target.metric}' was not finite"
    return {"outcome": None if outcome is None else outcome.value, "message": message}


__all__ = ["curve", "ending"]
