"""MLPerf's reference convergence points as imported runs, one for each benchmark and version.

A reference point is one tuned setting on many seeds, all of which converged, so its runs are `confirm` and nothing was
searched. The number of a batch size is the smallest median of its points, as everywhere in the analysis.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bcrit.analysis.exchange.experiment_name import experiment_name
from bcrit.analysis.exchange.imported_run import ImportedRun, Notes, imported_trial
from bcrit.analysis.exchange.mlperf.benchmarks import Benchmark, Counted, as_told
from bcrit.analysis.exchange.mlperf.points import ReferencePoint, read_points
from bcrit.analysis.exchange.names import renamed
from bcrit.analysis.exchange.settings import our_names, setting_columns
from bcrit.analysis.exchange.tried_space import tried_space
from bcrit.analysis.records.arrow_tables import to_arrow
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.tables import TRIALS
from bcrit.search_spaces.target import Target

# MLPerf's own names of what we call otherwise; `global_batch_size` repeats the batch size.
_NAMES = {
    "opt_base_learning_rate": "lr",
    "opt_lr": "lr",
    "opt_momentum": "momentum",
    "opt_name": "optimizer",
    "opt_weight_decay": "weight_decay",
}
_DOUBLED = ("global_batch_size",)


def import_mlperf(
    path: Path,
    benchmark: str | None = None,
    version: str | None = None,
    target: Target | None = None,
    counted: Counted | None = None,
    examples_per_epoch: float | None = None,
) -> dict[str, ImportedRun]:
    """Read reference convergence points.

    Args:
        path: a `rcps_*.json` of mlcommons/logging or a flat CSV (`read_points`).
        benchmark: only this one.
        version: only this one: `5.0.0`, or `training_5.0.0` where that is not enough.
        target: the quality they converged to; None = as known for the benchmark.
        counted: what the lists count: epochs, examples, tokens or steps; None = as known.
        examples_per_epoch: training examples in an epoch; None = as known.

    Returns:
        Imported runs by the name of their folder, such as `resnet_training_4.0.0`.

    Raises:
        InputError: nothing matches, or the unit or the quality of a benchmark is neither known nor given.
    """
    points = read_points(path)
    benchmarks, versions = sorted({p.benchmark for p in points}), sorted({p.version for p in points} - {""})
    if benchmark is not None and benchmark not in benchmarks:
        raise InputError(str(path), [f"there is no benchmark '{benchmark}'; there are {', '.join(benchmarks)}"])
    chosen = [p for p in points if benchmark in (None, p.benchmark) and _is_version(p.version, version)]
    if not chosen:
        theirs = sorted({p.version for p in points if benchmark in (None, p.benchmark)} - {""}) or versions or ["none"]
        raise InputError(str(path), [f"there is no version '{version}' of it; there are {', '.join(theirs)}"])
    groups: dict[tuple[str, str], list[ReferencePoint]] = {}
    for point in chosen:
        groups.setdefault((point.benchmark, point.version or (version or "")), []).append(point)
    told = {key: as_told(*key, target, counted, examples_per_epoch) for key in groups}
    runs: dict[str, ImportedRun] = {}
    empty = []
    for key, group in groups.items():
        if any(point.lengths for point in group):
            name = experiment_name("_".join(filter(None, key)), "mlperf")
            name = name if name not in runs else f"{name[:90]}-{len(runs)}"
            runs[name] = _run(name, group, *told[key], str(path), counted)
        else:
            empty.append(" ".join(key))
    if not runs:
        raise InputError(str(path), [f"no reference point of {', '.join(empty)} has a list to converge"])
    for run in runs.values():
        run.notes.add("Benchmarks without any list to converge were left out", len(empty), empty[0] if empty else None)
    return runs


def _is_version(of_point: str, wanted: str | None) -> bool:
    return wanted is None or of_point in ("", wanted) or of_point.endswith(f"_{wanted}")


def _run(
    name: str, points: Sequence[ReferencePoint], facts: Benchmark, target: Target, source: str, counted: Counted | None
) -> ImportedRun:
    notes = Notes()
    without = [point.name for point in points if not point.lengths]
    notes.add(
        "Reference points without a list to converge were left out", len(without), without[0] if without else None
    )
    points = [point for point in points if point.lengths]
    there = setting_columns([_plain(point.settings) for point in points], notes)
    # Of two spellings of one thing the later in `_NAMES` keeps its own name.
    known = {ours: name for name, ours in reversed(_NAMES.items()) if name in there and ours not in there}
    here = our_names(there, {name: ours for ours, name in known.items()})
    columns = {here[n]: values for n, values in there.items()}
    rows, numbers, labels = [], Counter[int](), _labels(points)
    # An epoch is the same at every batch size, and so, nearly, is the number of epochs between two evaluations.
    together = evaluation_interval([p.lengths for p in points]) if facts.counted is Counted.EPOCHS else None
    for i, point in enumerate(points):
        unit = _steps_per_unit(point, facts, counted)
        grid = together or evaluation_interval([point.lengths])
        for seed, length in enumerate(point.lengths):
            steps = max(1, round(length * unit))
            rows.append(
                imported_trial(
                    f"{labels[i]}/{seed}",
                    point.batch_size,
                    numbers[point.batch_size],
                    stage="confirm",
                    repeats=labels[i],
                    seed=seed,
                    outcome=Outcome.REACHED.value,
                    steps=steps,
                    steps_to_target=steps,
                    steps_to_target_low=None if grid is None else max(0, min(steps - 1, round((length - grid) * unit))),
                    **{column: values[i] for column, values in columns.items()},
                )
            )
            numbers[point.batch_size] += 1
    _explain(notes, points, facts, target, columns)
    optimizers = sorted({str(value) for value in columns.get("optimizer", ()) if value is not None})
    experiment = Experiment.model_validate(
        {
            "name": name,
            "imported": {"format": "mlperf", "source": source, "names": renamed(here)},
            "workload": f"MLPerf {points[0].benchmark} {points[0].version}".strip(),
            "optimizer": optimizers[0] if len(optimizers) == 1 else "several" if optimizers else "not recorded",
            "batch_sizes": sorted({point.batch_size for point in points}),
            "target": target,
            "space": tried_space({}),
            "budget": {"steps": max(row["steps"] for row in rows)},
        }
    )
    table = to_arrow(TRIALS, rows)
    return ImportedRun("mlperf", source, experiment, lambda: table, [], notes)


def _labels(points: Sequence[ReferencePoint]) -> list[str]:
    """One name a point; names that stand twice get a number."""
    seen: Counter[str] = Counter()
    labels = []
    for point in points:
        seen[point.name] += 1
        labels.append(point.name if seen[point.name] == 1 else f"{point.name} #{seen[point.name]}")
    return labels


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters without the batch size; lists and mappings as JSON text."""
    return {
        str(name): json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in settings.items()
        if name not in _DOUBLED
    }


def _steps_per_unit(point: ReferencePoint, facts: Benchmark, counted: Counted | None) -> float:
    """Optimizer updates in one unit of a point's list; what the source says of its unit goes before what is known."""
    if point.counts_samples and counted is None:
        return 1 / point.batch_size
    return 1.0 if facts.examples is None else facts.examples / point.batch_size


def evaluation_interval(points: Sequence[Sequence[float]]) -> float | None:
    """How far apart evaluations stand, read off the lengths of seeds.

    Runs end at evaluations, so neighbouring lengths differ by a whole number of intervals, and of many seeds most
    neighbours differ by one. The commonest difference is taken, the smaller one of equally common ones: a length that
    was noted wrongly then changes nothing. With few seeds it may be a multiple of the interval, never less.

    Args:
        points: the lengths of the seeds of each point, in any unit.

    Returns:
        The interval in that unit; None where all seeds of a point agree, which says nothing.
    """
    gaps: Counter[float] = Counter()
    for lengths in points:
        ordered = sorted(set(lengths))
        gaps.update(round(b - a, 9) for a, b in zip(ordered, ordered[1:], strict=False))
    return min(gaps, key=lambda gap: (-gaps[gap], gap)) if gaps else None


def _explain(
    notes: Notes,
    points: Sequence[ReferencePoint],
    facts: Benchmark,
    target: Target,
    columns: Mapping[str, Sequence[Any]],
) -> None:
    samples = all(point.counts_samples for point in points)
    unit = Counted.EXAMPLES if samples else facts.counted
    size = "" if samples or facts.examples in (None, 1.0) else f" of {facts.examples:,.12g} examples each"
    notes.add(f"The lists to converge count {unit}{size}")
    if unit is Counted.EPOCHS:
        notes.add(
            "Steps are epochs times the epoch's size over the batch size, to whole steps; whether a last partial batch "
            "was trained on is not known. A wrong size multiplies s_min and e_min alike and leaves b_crit as it is"
        )
    else:
        notes.add("Steps are rounded to whole numbers")
    if facts.note:
        notes.add(facts.note[0].upper() + facts.note[1:])
    notes.add(f"MLPerf counts a run as converged at the threshold too, not only beyond it: {target}")
    notes.add("An evaluation interval is read off the lengths of the seeds; where all agree it is not known")
    if len(set(columns.get("optimizer", ()))) > 1:
        notes.add("The optimizer is not the same at all batch sizes; it is kept as a hyperparameter")
    several = [size for size, count in Counter(point.batch_size for point in points).items() if count > 1]
    notes.add("Batch sizes with several reference points: the smallest median counts", len(several))


__all__ = ["evaluation_interval", "import_mlperf"]
