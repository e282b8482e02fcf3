"""The rows of a tracker's runs: trials with their stage, seed and ending, and their measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from bcrit.analysis.exchange.imported_run import Notes, imported_trial
from bcrit.analysis.exchange.names import metric_names
from bcrit.analysis.exchange.trackers.curves import ending
from bcrit.analysis.exchange.trackers.names import Names, Reading
from bcrit.analysis.exchange.trackers.run import SECONDS, LoggedRun


def trial_rows(
    runs: Sequence[LoggedRun],
    sizes: Sequence[int],
    curves: Sequence[pd.DataFrame],
    columns: Mapping[str, Sequence[Any]],
    names: Names,
    reading: Reading,
    notes: Notes,
) -> list[dict[str, Any]]:
    """The rows of the trials table, with empty cells for what `complete` reads off the curves.

    Args:
        runs: those that count.
        sizes: batch size of each.
        curves: evaluations of each.
        columns: values of each hyperparameter, by our names.
        names: of the seed and the other settings with a meaning.
        reading: what "reached" means.
        notes: for repeats and endings.
    """
    points = [(size, *(values[i] for values in columns.values())) for i, size in enumerate(sizes)]
    staged = stages(points)
    repeated = sum(stage == "confirm" for stage, _ in staged)
    notes.add("Runs that repeat another's settings are read as repeats on other seeds", repeated)
    numbers: Counter[tuple[int, str]] = Counter()
    rows = []
    for i, (run, (stage, first)) in enumerate(zip(runs, staged, strict=True)):
        number = numbers[sizes[i], stage]
        numbers[sizes[i], stage] += 1
        seconds = curves[i][SECONDS].max()
        known = {
            "stage": stage,
            "repeats": None if first is None else runs[first].name,
            "seed": _seed(run.known.get(names.seed) if names.seed else None, number),
            **ending(run, curves[i], reading.target, notes),
            "train_seconds": 0.0 if pd.isna(seconds) else float(seconds),
            "started_at": run.started_at,
            "ended_at": run.ended_at,
        }
        rows.append(imported_trial(run.name, sizes[i], number, **known, **{n: v[i] for n, v in columns.items()}))
    return rows


def stages(points: Sequence[tuple[Any, ...]]) -> list[tuple[str, int | None]]:
    """Tell the search from its repeats.

    In a study of several points the first run of each is the search, and the others, on other seeds, confirm it; a
    study of one point that was run several times has nothing but repeats.

    Args:
        points: (batch size, hyperparameters ...) of each run.

    Returns:
        (stage, index of the run whose point it repeats) of each run.
    """
    first: dict[tuple[Any, ...], int] = {}
    for i, point in enumerate(points):
        first.setdefault(point, i)
    times, in_study = Counter(points), Counter(point[0] for point in first)
    return [
        ("confirm", first[point])
        if first[point] != i or (in_study[point[0]] == 1 and times[point] > 1)
        else ("search", None)
        for i, point in enumerate(points)
    ]


def _seed(value: Any, number: int) -> int:
    """The seed that was logged; the run's number where none was, or one that is no whole number."""
    try:
        return int(str(value)) if abs(int(str(value))) < 2**63 else number
    except ValueError:
        return number


def measurements_of(rows: Sequence[Mapping[str, Any]], curves: Sequence[pd.DataFrame]) -> list[pa.Table]:
    """All curves as one table, so that its columns are the same for all.

    Args:
        rows: of the trials.
        curves: evaluations of each.

    Returns:
        The table; no table where nothing was measured.
    """
    parts = []
    for row, of in zip(rows, curves, strict=True):
        metrics = [name for name in of.columns if name not in ("step", SECONDS)]
        own = {"trial_id": row["trial_id"], "step": of["step"], "examples": of["step"] * row["batch_size"]}
        parts.append(pd.DataFrame({**own, SECONDS: of[SECONDS], **of[metrics].rename(columns=metric_names(metrics))}))
    frame = pd.concat([part for part in parts if len(part)], ignore_index=True) if any(map(len, parts)) else None
    if frame is None:
        return []
    # A NaN here is a value that was not finite or not known, not an empty cell.
    fields = [pa.field("trial_id", pa.string()), *(pa.field(name, pa.int64()) for name in ("step", "examples"))]
    fields += [pa.field(str(name), pa.float64()) for name in frame.columns[3:]]
    arrays = [pa.array(frame[field.name].to_numpy(), field.type) for field in fields]
    return [pa.table(arrays, schema=pa.schema(fields))]


__all__ = ["measurements_of", "stages", "trial_rows"]
