"""Training runs as a tracker logged them, and how they become a run of ours: names, counter, repeats, endings, spaces.

This is what Optuna, Ray Tune and Weights & Biases have in common; their readers give `LoggedRun`s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from bcrit.analysis.exchange.run import (
    Axis,
    ImportedRun,
    Notes,
    Row,
    common_space,
    experiment_name,
    fitted,
    foreign_run,
    last_word,
    listed,
    metric_names,
    numbered,
    our_names,
    setting_columns,
    trial_row,
    tried_space,
    uniform,
)
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.target import Target

SECONDS = "train_seconds"
"""The column of a log that holds the seconds since the run began, where the tracker has them."""
_BATCH_SIZES: Final = ("batch_size", "bs", "global_batch_size", "train_batch_size", "batchsize")
_SEEDS: Final = ("seed", "random_seed", "rng_seed", "manual_seed")
"""Words for them, the likelier first; a nested name is known by its last word. Chosen."""


@dataclass(frozen=True)
class LoggedRun:
    """What a tracker says of one run."""

    name: str  # unique in the source
    settings: Mapping[str, Any]  # its configuration, flat: hyperparameters and perhaps batch size and seed
    # One row a report, in the order of reporting: counters and metrics as floats, NaN where nothing finite was
    # reported; perhaps `SECONDS`.
    log: pd.DataFrame
    broken: frozenset[str] = frozenset()  # metrics whose last report was NaN or infinite
    outcome: Outcome | None = None  # where the tracker knows more than the log shows; None = it ended by itself
    message: str | None = None  # why, in a sentence
    started_at: float = 0.0  # seconds since 1970; 0 where it is not known
    ended_at: float = 0.0
    attributes: Mapping[str, Any] = field(default_factory=dict)  # no hyperparameter, but perhaps batch size or seed

    @property
    def known(self) -> dict[str, Any]:
        """Settings and attributes together; a setting goes before an attribute of the same name."""
        return {**self.attributes, **self.settings}


@dataclass(frozen=True)
class Reading:
    """How logged runs are to be read. Names of options in messages are those of the command line."""

    target: Target
    batch_size: str | None = None  # setting that holds it; None = the only one that is named like one
    seed: str | None = None  # setting that holds it; None = the only one that is named like one, if any
    counter: str | None = None  # column of the log that counts progress; None = the first of `counters` that is there
    steps_per_count: float | None = None  # optimizer updates in one count; None = 1
    examples_per_count: float | None = None  # examples in one count instead: an epoch's size where it counts epochs
    unit: str = "examples"  # what a batch counts
    counters: tuple[str, ...] = ("step", "global_step")  # names of columns that are known to count optimizer updates
    # Names of columns that count something else, taken only with a factor and without any of `counters`.
    iterations: tuple[str, ...] = ()

    def steps(self, batch_size: int) -> float:
        """Optimizer updates in one count at a batch size."""
        if self.examples_per_count is not None:
            return self.examples_per_count / batch_size
        return 1.0 if self.steps_per_count is None else self.steps_per_count

    @property
    def factor(self) -> str:
        """What one count is, in words."""
        if self.examples_per_count is not None:
            return f"{self.examples_per_count:,.12g} {self.unit}"
        return "one step" if self.steps_per_count in (None, 1) else f"{self.steps_per_count:,.12g} steps"


@dataclass(frozen=True)
class Names:
    """What was found: names in the source."""

    batch_size: str
    seed: str | None
    counter: str


def flat(nested: Mapping[Any, Any]) -> dict[str, Any]:
    """Flatten a configuration: `{"optimizer": {"lr": 0.1}}` becomes `{"optimizer/lr": 0.1}`; lists become text.

    >>> flat({"batch_size": 64, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}})
    {'batch_size': 64, 'optimizer/lr': 0.1, 'optimizer/betas': '[0.9, 0.99]'}
    """
    return dict(_flatten(nested, ""))


def _flatten(nested: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            plain = value is None or isinstance(value, str | bool | int | float)
            yield f"{prefix}{key}", value if plain else str(value)


def import_logged(
    runs: Sequence[LoggedRun],
    reading: Reading,
    format_name: str,
    source: str,
    notes: Notes,
    space: Mapping[str, Axis] | None = None,
    name: str | None = None,
) -> ImportedRun:
    """Bring logged runs into our words; those that agree in all settings but the seed repeat one point (`stages`).

    `runs` have different names and stand in the order in which they began. `space` holds the dimensions that were
    searched, by their names there; None = the box around what was tried. `name` is that of the experiment; None = the
    last part of the source. An `InputError` says what cannot be found or used.
    """
    if not runs:
        raise InputError(source, ["there is no run in it"])
    names = find_names(runs, reading, source)
    runs = _usable(runs, names, reading, notes)
    if not runs:
        rule = f"no run can be used: each lacks '{names.batch_size}', or reports of '{reading.target.metric}'"
        raise InputError(source, [f"{rule}; name the batch size, or another metric in --target"])
    sizes = _batch_sizes(runs, names.batch_size, source)
    curves = [curve(run, names, reading, size, notes) for run, size in zip(runs, sizes, strict=True)]
    _refuse_easy_target(curves, reading.target, source)
    own = (names.batch_size, names.seed)
    there = setting_columns([{n: v for n, v in run.settings.items() if n not in own} for run in runs], notes)
    here = our_names(there)
    columns = {here[name]: values for name, values in there.items()}
    rows = _rows(runs, sizes, curves, columns, names, reading, notes)
    notes.add(f"'{names.counter}' counts progress, one count being {reading.factor}")
    notes.add("Times are the tracker's, with evaluation in them", sum(row["train_seconds"] > 0 for row in rows))
    axes = {here[name]: axis for name, axis in (space or {}).items() if name in here}
    optimizers = set(columns.get("optimizer", ())) - {None}
    called = experiment_name(name or source, format_name)
    experiment: Row = {"name": called, "workload": called, "target": reading.target, "unit": reading.unit}
    experiment["optimizer"] = str(next(iter(optimizers))) if len(optimizers) == 1 else "not recorded"
    experiment["space"], experiment["spaces"] = _spaces(sizes, columns, axes, notes)
    # Where nothing finite was reported, no step is known: every run diverged or failed.
    experiment["steps"] = [int(of["step"].max()) for of in curves if len(of)]
    trials, measured = uniform(rows), measurements_of(rows, curves)
    return foreign_run(format_name, source, notes, lambda: trials, measured, here, **experiment)


def find_names(runs: Sequence[LoggedRun], reading: Reading, where: str) -> Names:
    """Find the settings and the counter, and check that the target can be judged; what is wrong is listed at once."""
    problems = []
    steps, examples = reading.steps_per_count, reading.examples_per_count
    for option, factor in (("--steps-per-iteration", steps), ("--examples-per-iteration", examples)):
        if factor is not None and not 0 < factor < 1e18:
            problems.append(f"{option} must be a positive number, but it is {factor:g}")
    if steps is not None and examples is not None:
        problems.append("an iteration is so many steps or so many examples: give one of the two options")
    settings = list(dict.fromkeys(name for run in runs for name in run.known))
    logged = list(dict.fromkeys(str(name) for run in runs for name in [*run.log.columns, *sorted(run.broken)]))
    batch_size = _setting(settings, reading.batch_size, _BATCH_SIZES)
    seed = _setting(settings, reading.seed, _SEEDS)
    lacking = [("--batch-size-param", reading.batch_size)] if batch_size is None else []
    lacking += [("--seed-param", reading.seed)] if seed is None and reading.seed is not None else []
    for option, asked in lacking:
        none = "no setting, or more than one, is named like a batch size"
        said = f"no setting is named '{asked}'" if asked else none
        problems.append(f"{said}; name it with {option}; the settings are {listed(settings)}")
    metric = reading.target.metric
    if metric not in logged:
        problems.append(f"the target's metric '{metric}' was never logged; what was logged is {listed(logged)}")
    counter = _counter(logged, reading)
    if counter is None:
        problems.append(f"{_no_counter(logged, reading)}; what was logged is {listed(logged)}")
    if problems:
        raise InputError(where, problems)
    assert batch_size is not None and counter is not None
    return Names(batch_size, seed, counter)


def _setting(settings: Sequence[str], asked: str | None, words: Sequence[str]) -> str | None:
    """The setting that was asked for, whole or by its last word; else the only one that is named like it."""
    if asked in settings:
        return asked
    for word in [asked.lower()] if asked is not None else words:
        there = [name for name in settings if name.lower() == word] or [n for n in settings if last_word(n) == word]
        if there:
            return there[0] if len(there) == 1 else None
    return None


def _counter(logged: Sequence[str], reading: Reading) -> str | None:
    if reading.counter is not None:
        return reading.counter if reading.counter in logged else None
    given = reading.steps_per_count is not None or reading.examples_per_count is not None
    known = [*reading.counters, *(reading.iterations if given else ())]
    return next((name for name in known if name in logged), None)


def _no_counter(logged: Sequence[str], reading: Reading) -> str:
    if reading.counter is not None:
        return f"nothing named '{reading.counter}' was logged"
    there = [name for name in reading.iterations if name in logged]
    counts = f"'{there[0]}' need not count optimizer updates" if there else "no column that counts updates was logged"
    remedy = "or say what an iteration is with --steps-per-iteration or --examples-per-iteration"
    return f"{counts}; name the counter with --step-key, {remedy}"


def _usable(runs: Sequence[LoggedRun], names: Names, reading: Reading, notes: Notes) -> list[LoggedRun]:
    """Leave out runs that say nothing: no report of the metric, and no failure either."""
    metric, kept = reading.target.metric, []
    for run in runs:
        failed = run.outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY)
        if names.batch_size not in run.known and run.log.empty:
            notes.add("Runs without a batch size and without a report were left out", 1, run.name)
        elif metric in run.log.columns or metric in run.broken or failed:
            kept.append(run)
        else:
            notes.add(f"Runs that never reported '{metric}' were left out", 1, run.name)
    return kept


def _batch_sizes(runs: Sequence[LoggedRun], name: str, source: str) -> list[int]:
    found, problems = [], []
    for run in runs:
        value: Any = run.known.get(name)
        try:
            size = float(value)
        except (TypeError, ValueError):
            size = 0.0
        if isinstance(value, bool) or not 1 <= size < 2**62 or size != int(size):
            problems.append(f"'{name}' must be a whole number of at least 1, but run '{run.name}' has {value!r:.80}")
        else:
            found.append(int(size))
    if problems:
        more = [f"and {len(problems) - 5} runs more"] if len(problems) > 5 else []
        raise InputError(source, problems[:5] + more)
    return found


def curve(run: LoggedRun, names: Names, reading: Reading, batch_size: int, notes: Notes) -> pd.DataFrame:
    """The evaluations of a run, in order of step and one a step: `step` (whole updates), `train_seconds`, the metrics.

    A counter that falls back means that the run was begun again: what it then reported stands for what came before. A
    report without a counter has that of the report before it. Seconds are NaN where they are not known.
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


def ending(run: LoggedRun, evaluations: pd.DataFrame, target: Target, notes: Notes) -> Row:
    """How a run ended, as far as the curve does not say it itself: columns `outcome` and `message`."""
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


def _refuse_easy_target(curves: Sequence[pd.DataFrame], target: Target, source: str) -> None:
    # A target that every run is beyond at its first evaluation has the wrong sign, or tells nothing of any step. Runs
    # of which only the end is known do not count.
    first = [of[target.metric].iloc[0] for of in curves if len(of)]
    if any(len(of) > 1 for of in curves) and all(target.reached(value) for value in first):
        beyond = f"every run is beyond '{target}' at its first evaluation"
        raise InputError(source, [f"{beyond}; turn the sign round, or choose a threshold that is reached later"])


def _rows(
    runs: Sequence[LoggedRun],
    sizes: Sequence[int],
    curves: Sequence[pd.DataFrame],
    columns: Mapping[str, Sequence[Any]],
    names: Names,
    reading: Reading,
    notes: Notes,
) -> Sequence[Row]:
    """The rows of the trials table, with empty cells for what `complete` reads off the curves."""
    points = [(size, *(values[i] for values in columns.values())) for i, size in enumerate(sizes)]
    staged = stages(points)
    repeated = sum(stage == "confirm" for stage, _ in staged)
    notes.add("Runs that repeat another's settings are read as repeats on other seeds", repeated)
    rows = []
    for i, (run, (stage, first)) in enumerate(zip(runs, staged, strict=True)):
        seconds = curves[i][SECONDS].max()
        known = {
            "stage": stage,
            "repeats": None if first is None else runs[first].name,
            "seed": _seed(run.known.get(names.seed or "")),
            **ending(run, curves[i], reading.target, notes),
            "train_seconds": 0.0 if pd.isna(seconds) else float(seconds),
            "started_at": run.started_at,
            "ended_at": run.ended_at,
        }
        rows.append(trial_row(run.name, sizes[i], **known, **{n: v[i] for n, v in columns.items()}))
    for row in numbered(rows):
        row["seed"] = row["number"] if row["seed"] is None else row["seed"]
    return rows


def stages(points: Sequence[tuple[Any, ...]]) -> list[tuple[str, int | None]]:
    """Tell the search from its repeats: the stage of each run, and the index of the run whose point it repeats.

    In a study of several points the first run of each is the search, and the others, on other seeds, confirm it; a
    study of one point that was run several times has nothing but repeats. A point is (batch size, hyperparameters ...).
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


def _seed(value: Any) -> int | None:
    """The seed that was logged; None where none was, or one that is no whole number."""
    try:
        return int(str(value)) if abs(int(str(value))) < 2**63 else None
    except ValueError:
        return None


def measurements_of(rows: Sequence[Row], curves: Sequence[pd.DataFrame]) -> list[pa.Table]:
    """All curves as one table, so that its columns are the same for all; no table where nothing was measured."""
    parts = []
    for row, of in zip(rows, curves, strict=True):
        metrics = [name for name in of.columns if name not in ("step", SECONDS)]
        own = {"trial_id": row["trial_id"], "step": of["step"], "examples": of["step"] * row["batch_size"]}
        parts.append(pd.DataFrame({**own, SECONDS: of[SECONDS], **of[metrics].rename(columns=metric_names(metrics))}))
    measured = [part for part in parts if len(part)]
    if not measured:
        return []
    frame = pd.concat(measured, ignore_index=True)
    # A NaN here is a value that was not finite or not known, not an empty cell.
    kinds = {"trial_id": pa.string(), "step": pa.int64(), "examples": pa.int64()}
    return [pa.table({str(n): pa.array(frame[n].to_numpy(), kinds.get(n, pa.float64())) for n in frame.columns})]


def _spaces(
    sizes: Sequence[int], columns: Mapping[str, Sequence[Any]], axes: Mapping[str, Axis], notes: Notes
) -> tuple[SearchSpace, dict[int, SearchSpace]]:
    """The space of all studies and each study's own: as the tracker tells it in `axes`, else what was tried."""
    whole, studies = tried_space(columns), {}
    if not axes:
        notes.add("The search space is not recorded; a box around what was tried at each batch size stands for it")
    for size in sorted(set(sizes)):
        of_study = {n: [v for v, b in zip(values, sizes, strict=True) if b == size] for n, values in columns.items()}
        points = [dict(zip(of_study, values, strict=True)) for values in zip(*of_study.values(), strict=True)]
        studies[size] = fitted(axes, points, f"batch size {size}", notes) if axes else tried_space(of_study, whole)
    return (common_space(list(studies.values())) if axes else whole), studies
