"""Training runs as a tracker logged them, and how they become a run of ours: names, counter, repeats, endings, spaces.

This is what Optuna, Ray Tune and Weights & Biases have in common; their readers give `LoggedRun`s.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from bcrit.analysis.exchange import Reading
from bcrit.analysis.exchange import run as foreign
from bcrit.analysis.exchange.files import STEP
from bcrit.analysis.exchange.steps import in_order
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.space import SearchSpace
from bcrit.search_spaces.target import Target

SECONDS = "train_seconds"  # the column of a log that holds the seconds since the run began, where the tracker has them
# Words for them, the likelier first; a nested name is known by its last word. Chosen.
_BATCH_SIZES: Final = ("batch_size", "bs", "global_batch_size", "train_batch_size", "batchsize")
_SEEDS: Final = ("seed", "random_seed", "rng_seed", "manual_seed")
_MOST_STEPS = 1e12  # as in the schema of an experiment
_BROKE = (Outcome.FAILED, Outcome.OUT_OF_MEMORY)


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
class Counters:
    """What columns of a log that count progress are called."""

    asked: str | None = None  # the one that counts; None = the first of the others that is there
    updates: tuple[str, ...] = (STEP, "global_step")  # known to count optimizer updates
    iterations: tuple[str, ...] = ()  # count something else; taken only with a factor and without any of `updates`


@dataclass(frozen=True)
class Names:
    """What was found: names in the source."""

    batch_size: str
    seed: str | None
    counter: str


def flat(nested: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a configuration: `{"optimizer": {"lr": 0.1}}` becomes `{"optimizer/lr": 0.1}`; lists become text.

    >>> flat({"batch_size": 64, "optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}})
    {'batch_size': 64, 'optimizer/lr': 0.1, 'optimizer/betas': '[0.9, 0.99]'}
    """
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}/")
        else:
            plain = value is None or isinstance(value, str | bool | int | float)
            found[f"{prefix}{key}"] = value if plain else str(value)
    return found


def import_logged(
    runs: Sequence[LoggedRun],
    how: Reading,
    counters: Counters,
    format_name: str,
    source: str,
    notes: foreign.Notes,
    space: Mapping[str, foreign.Axis] | None = None,
    name: str | None = None,
) -> foreign.ImportedRun:
    """Bring logged runs into our words; those that agree in all settings but the seed repeat one point (`stages`).

    `runs` have different names and stand in the order in which they began. `space` holds the dimensions that were
    searched, by their names there; None = the box around what was tried. The experiment is called after the last part
    of `name`; None = of the source. An `InputError` says what cannot be found or used.
    """
    if not runs:
        raise InputError(source, ["there is no run in it"])
    names, metric = find_names(runs, how, counters, source), how.target.metric
    runs = _usable(runs, names, metric, notes)
    if not runs:
        rule = f"no run can be used: each lacks '{names.batch_size}', or reports of '{metric}'"
        raise InputError(source, [f"{rule}; name the batch size, or another metric in --target"])
    sizes = _batch_sizes(runs, names.batch_size, source)
    curves = [curve(run, names, how, size, notes) for run, size in zip(runs, sizes, strict=True)]
    # A target that every run is beyond at its first evaluation has the wrong sign, or tells nothing of any step. Runs
    # of which only the end is known do not count.
    first = [of[metric].iloc[0] for of in curves if len(of)]
    if any(len(of) > 1 for of in curves) and all(how.target.reached(value) for value in first):
        beyond = f"every run is beyond '{how.target}' at its first evaluation"
        raise InputError(source, [f"{beyond}; turn the sign round, or choose a threshold that is reached later"])

    own = (names.batch_size, names.seed)
    there = foreign.setting_columns([{n: v for n, v in run.settings.items() if n not in own} for run in runs], notes)
    here = foreign.our_names(there)
    points = [{here[name]: values[i] for name, values in there.items()} for i in range(len(runs))]
    staged = stages([(size, *point.values()) for size, point in zip(sizes, points, strict=True)])
    repeated = sum(stage == "confirm" for stage, _ in staged)
    notes.add("Runs that repeat another's settings are read as repeats on other seeds", repeated)
    rows = []
    for run, size, of, point, (stage, repeats) in zip(runs, sizes, curves, points, staged, strict=True):
        seconds = of[SECONDS].max()
        known: foreign.Row = {"stage": stage, "repeats": None if repeats is None else runs[repeats].name}
        known |= {"seed": _seed(run.known.get(names.seed or "")), **ending(run, of, how.target, notes)}
        # Where nothing finite was reported, no step is known: the run diverged or failed.
        known |= {"steps": int(of[STEP].max()) if len(of) else None}
        known |= {"train_seconds": 0.0 if pd.isna(seconds) else float(seconds)}
        known |= {"started_at": run.started_at, "ended_at": run.ended_at}
        rows.append(foreign.trial_row(run.name, size, **known, **point))
    notes.add(f"'{names.counter}' counts progress, one count being {how.factor}")
    notes.add("Times are the tracker's, with evaluation in them", sum(row["train_seconds"] > 0 for row in rows))
    optimizers = {point.get("optimizer") for point in points} - {None}
    called = foreign.experiment_name(name or source, format_name)
    experiment: foreign.Row = {"name": called, "workload": called, "target": how.target, "unit": how.unit}
    experiment["optimizer"] = str(optimizers.pop()) if len(optimizers) == 1 else "not recorded"
    axes = {here[name]: axis for name, axis in (space or {}).items() if name in here}
    experiment["space"], experiment["spaces"] = _spaces(sizes, points, axes, notes)
    measured = measurements_of(rows, curves)
    return foreign.foreign_run(format_name, source, notes, rows, lambda: measured, here, **experiment)


def find_names(runs: Sequence[LoggedRun], how: Reading, counters: Counters, where: str) -> Names:
    """Find the settings and the counter, and check that the target can be judged; what is wrong is listed at once."""
    problems = []
    steps, examples = how.steps_per_iteration, how.examples_per_iteration
    for option, factor in (("--steps-per-iteration", steps), ("--examples-per-iteration", examples)):
        if factor is not None and not 0 < factor < 1e18:
            problems.append(f"{option} must be a positive number, but it is {factor:g}")
    if steps is not None and examples is not None:
        problems.append("an iteration is so many steps or so many examples: give one of the two options")
    settings = list(dict.fromkeys(name for run in runs for name in run.known))
    logged = list(dict.fromkeys(str(name) for run in runs for name in [*run.log.columns, *sorted(run.broken)]))
    batch_size = _setting(settings, how.batch_size_param, _BATCH_SIZES)
    seed = _setting(settings, how.seed_param, _SEEDS)
    lacking = [("--batch-size-param", how.batch_size_param)] if batch_size is None else []
    lacking += [("--seed-param", how.seed_param)] if seed is None and how.seed_param is not None else []
    for option, asked in lacking:
        none = "no setting, or more than one, is named like a batch size"
        said = f"no setting is named '{asked}'" if asked else none
        problems.append(f"{said}; name it with {option}; the settings are {foreign.listed(settings)}")
    if how.target.metric not in logged:
        rule = f"the target's metric '{how.target.metric}' was never logged"
        problems.append(f"{rule}; what was logged is {foreign.listed(logged)}")
    uncounted = [name for name in counters.iterations if name in logged]
    likely = [name for name in counters.updates if name in logged]
    if counters.asked is not None:
        likely = [name for name in logged if name == counters.asked]
    elif steps is not None or examples is not None:
        likely += uncounted
    if not likely:
        said = f"nothing named '{counters.asked}' was logged"
        if counters.asked is None:
            none = "no column that counts updates was logged"
            said = f"'{uncounted[0]}' need not count optimizer updates" if uncounted else none
            said += "; name the counter with --step-key, or say what an iteration is with --steps-per-iteration or "
            said += "--examples-per-iteration"
        problems.append(f"{said}; what was logged is {foreign.listed(logged)}")
    if problems:
        raise InputError(where, problems)
    assert batch_size is not None
    return Names(batch_size, seed, likely[0])


def _setting(settings: Sequence[str], asked: str | None, words: Sequence[str]) -> str | None:
    """The setting that was asked for, whole or by its last word; else the only one that is named like it."""
    if asked in settings:
        return asked
    for word in [asked.lower()] if asked is not None else words:
        there = [name for name in settings if name.lower() == word] or [
            n for n in settings if foreign.last_word(n) == word
        ]
        if there:
            return there[0] if len(there) == 1 else None
    return None


def _usable(runs: Sequence[LoggedRun], names: Names, metric: str, notes: foreign.Notes) -> list[LoggedRun]:
    """Leave out runs that say nothing: no report of the metric, and no failure either."""
    kept = []
    for run in runs:
        if names.batch_size not in run.known and run.log.empty:
            notes.add("Runs without a batch size and without a report were left out", 1, run.name)
        elif metric in run.log.columns or metric in run.broken or run.outcome in _BROKE:
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


def curve(run: LoggedRun, names: Names, how: Reading, batch_size: int, notes: foreign.Notes) -> pd.DataFrame:
    """The evaluations of a run, in order of step and one a step: `step` (whole updates), `train_seconds`, the metrics.

    What is reported of one step is one evaluation; a counter that falls back is a run that was resumed (`in_order`).
    A report without a counter has that of the report before it. Seconds are NaN where they are not known.
    """
    metric, log = how.target.metric, run.log
    if metric not in log.columns or names.counter not in log.columns:
        return pd.DataFrame({STEP: np.zeros(0, dtype=np.int64), SECONDS: np.zeros(0)})
    count, given = log[names.counter].ffill() * how.steps(batch_size), log[metric].notna()
    if (count >= _MOST_STEPS).any():
        raise InputError(run.name, [f"'{names.counter}' must count steps below {_MOST_STEPS:g}, but it goes beyond"])
    notes.add(f"Reports before any '{names.counter}' were left out", int((given & ~(count >= 0)).sum()))
    usable = log[count >= 0]
    found = usable.drop(columns=[names.counter, SECONDS], errors="ignore").rename(columns=foreign.metric_names([STEP]))
    found.insert(0, "trial_id", "")
    found.insert(1, STEP, count[usable.index].round().astype(np.int64))
    found.insert(2, SECONDS, usable[SECONDS] if SECONDS in usable else np.nan)
    ordered, _, replaced = in_order(pa.Table.from_pandas(found, preserve_index=False))
    notes.add("Reports that a later one at the same or an earlier step replaces", replaced, run.name)
    rows: pd.DataFrame = ordered.to_pandas().drop(columns="trial_id")
    evaluated = rows[metric].notna()
    notes.add(f"Reports without a number for '{metric}' were left out", int((~evaluated).sum()))
    return rows[evaluated].reset_index(drop=True)


def ending(run: LoggedRun, evaluations: pd.DataFrame, target: Target, notes: foreign.Notes) -> foreign.Row:
    """How a run ended, as far as the curve does not say it itself: columns `outcome` and `message`."""
    values = evaluations.get(target.metric, pd.Series(dtype=float))
    reached = target.first_crossing(zip(evaluations[STEP], values, strict=True)) is not None
    outcome, message = run.outcome, run.message
    broken = target.metric in run.broken
    if reached and (broken or outcome in _BROKE):
        notes.add("Runs that failed or diverged after they had reached the target count as reached", 1, run.name)
        outcome, message = None, message or f"the last '{target.metric}' was not finite"
    elif broken and outcome is not Outcome.OUT_OF_MEMORY:
        outcome, message = Outcome.DIVERGED, f"the last '{target.metric}' was not finite"
    return {"outcome": None if outcome is None else outcome.value, "message": message}


def stages(points: Sequence[tuple[Any, ...]]) -> list[tuple[str, int | None]]:
    """Tell the search from its repeats: the stage of each run, and the index of the run whose point it repeats.

    In a study of several points the first run of each is the search, and the others, on other seeds, confirm it; a
    study of one point that was run several times has nothing but repeats. A point is (batch size, hyperparameters ...).
    """
    first = {point: i for i, point in reversed(list(enumerate(points)))}
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


def measurements_of(rows: Sequence[foreign.Row], curves: Sequence[pd.DataFrame]) -> list[pa.Table]:
    """All curves as one table, so that its columns are the same for all; no table where nothing was measured."""
    parts = []
    for row, of in zip(rows, curves, strict=True):
        metrics = of.drop(columns=[STEP, SECONDS])
        own = {"trial_id": row["trial_id"], STEP: of[STEP], "examples": of[STEP] * row["batch_size"]}
        own |= {SECONDS: of[SECONDS], **metrics.rename(columns=foreign.metric_names(map(str, metrics)))}
        parts += [pd.DataFrame(own)] if len(of) else []
    if not parts:
        return []
    frame = pd.concat(parts, ignore_index=True)
    kinds = {"trial_id": pa.string(), STEP: pa.int64(), "examples": pa.int64()}
    # A metric may be an empty cell, seconds that are not known are NaN.
    arrays = {n: pa.array(frame[n], kinds.get(str(n), pa.float64()), from_pandas=n != SECONDS) for n in frame.columns}
    return [pa.table(arrays)]


def _spaces(
    sizes: Sequence[int], points: Sequence[foreign.Row], axes: Mapping[str, foreign.Axis], notes: foreign.Notes
) -> tuple[SearchSpace, dict[int, SearchSpace]]:
    """The space of all studies and each study's own: as the tracker tells it in `axes`, else what was tried."""

    def tried(of: Sequence[foreign.Row], whole: SearchSpace | None = None) -> SearchSpace:
        return foreign.tried_space({name: [point[name] for point in of] for name in of[0]}, whole)

    whole, studies = tried(points), {}
    if not axes:
        notes.add("The search space is not recorded; a box around what was tried at each batch size stands for it")
    for size in sorted(set(sizes)):
        own = [point for point, of_size in zip(points, sizes, strict=True) if of_size == size]
        studies[size] = foreign.fitted(axes, own, f"batch size {size}", notes) if axes else tried(own, whole)
    return (foreign.common_space(list(studies.values())) if axes else whole), studies
