"""Studies of an Optuna storage as an imported run, read through Optuna's own interface and never written to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bcrit.analysis.exchange.files import metrics, table_of_rows
from bcrit.analysis.exchange.logged import SECONDS, LoggedRun, Reading, flat, import_logged
from bcrit.analysis.exchange.run import (
    Axis,
    ImportedRun,
    Notes,
    box_scale,
    choice_of,
    experiment_name,
    interval,
    listed,
    one_type,
    our_names,
)
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.target import Direction, Target

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_STEP = "step"
# What Optuna raises for a damaged or foreign storage, beside its own errors.
_FAULTS = (RuntimeError, ValueError, KeyError, TypeError)
_OUTCOMES = {"PRUNED": Outcome.PRUNED, "FAIL": Outcome.FAILED}
_RUNNING = "still running when it was read"
_MESSAGES = {"RUNNING": _RUNNING, "FAIL": "Optuna's FAIL: an error, or an objective that was NaN"}


@dataclass(frozen=True)
class StudyChoice:
    """Which part of a storage is read, and how its trials report."""

    names: tuple[str, ...] = ()  # several are read as one run, such as one study a batch size; empty = the only one
    steps_attr: str | None = None  # user attribute with the step of a trial's final value, for trials without reports
    objective: int | None = None  # which value of a study with several objectives, from 0; such trials cannot report


def import_optuna(location: str, reading: Reading, choice: StudyChoice) -> dict[str, ImportedRun]:
    """Read studies of a storage: `sqlite:///study.db`, another URL for SQLAlchemy, or an SQLite or journal file.

    Reports (`trial.report(value, step)`) are the measurements. Only parameters are hyperparameters, but the batch size
    and the seed may as well be user attributes of a trial or of its study.
    """
    studies = [_checked(study, reading.target, choice, location) for study in _chosen(location, choice)]
    trials = [(study, trial) for study in studies for trial in study.get_trials(deepcopy=False)]
    runs = [_logged(study, trial, len(studies) > 1, reading.target, choice) for study, trial in trials]
    if runs and all(run.log.empty for run in runs):
        attributes = listed(sorted({name for _, trial in trials for name in trial.user_attrs}))
        remedy = f"name the user attribute with the step of its final value by --steps-attr; there are {attributes}"
        raise InputError(location, [f"no trial reported a value with trial.report; {remedy}"])
    notes = Notes()
    if reading.steps_per_count is None and reading.examples_per_count is None:
        notes.add("If the steps of the reports count epochs, import again with --examples-per-iteration")
    running = [run.name for run in runs if run.message == _RUNNING]
    notes.among("Trials were still running when they were read", running)
    space = searched([trial.distributions for _, trial in trials], notes)
    name = experiment_name(studies[0].study_name if len(studies) == 1 else location, "optuna")
    return {name: import_logged(runs, replace(reading, counter=_STEP), "optuna", location, notes, space, name)}


def _logged(study: Study, trial: FrozenTrial, several: bool, target: Target, choice: StudyChoice) -> LoggedRun:
    rows: list[dict[str, Any]] = [
        {_STEP: step, target.metric: value} for step, value in sorted(trial.intermediate_values.items())
    ]
    at = trial.user_attrs.get(choice.steps_attr) if choice.steps_attr is not None else None
    if trial.values is not None and isinstance(at, int | float) and (not rows or at > rows[-1][_STEP]):
        rows.append({_STEP: at, target.metric: trial.values[choice.objective or 0]})
    duration = None if trial.duration is None else trial.duration.total_seconds()
    if rows and duration is not None:
        rows[-1][SECONDS] = duration
    log, broken = metrics(table_of_rows(rows))
    state = trial.state.name
    return LoggedRun(
        name=f"{study.study_name}/{trial.number}" if several else str(trial.number),
        settings={name: _parameter_value(value) for name, value in trial.params.items()},
        log=log,
        broken=broken,
        outcome=_OUTCOMES.get(state),
        message=_MESSAGES.get(state) if rows or state == "FAIL" else None,
        started_at=0.0 if trial.datetime_start is None else trial.datetime_start.timestamp(),
        ended_at=0.0 if trial.datetime_complete is None else trial.datetime_complete.timestamp(),
        attributes=flat({**study.user_attrs, **trial.user_attrs}),
    )


def _chosen(location: str, choice: StudyChoice) -> list[Study]:
    import optuna

    with _quiet(location):
        storage = _opened(location)
        there = [study.study_name for study in storage.get_all_studies()]
        if not there:
            raise InputError(location, ["the storage has no study"])
        if unknown := [name for name in choice.names if name not in there]:
            raise InputError(location, [f"there is no study '{unknown[0]}'; the studies are {listed(there)}"])
        if not choice.names and len(there) > 1:
            remedy = "name one with --study, or several of one workload by repeating it"
            raise InputError(location, [f"the storage has {len(there)} studies: {listed(there)}; {remedy}"])
        return [optuna.load_study(study_name=name, storage=storage) for name in choice.names or there]


@contextmanager
def _quiet(location: str) -> Iterator[None]:
    """Optuna's and its database's errors as one message, and nothing printed."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    except InputError:  # a ValueError too, but ours
        raise
    except (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, OSError, *_FAULTS) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(location, [f"it cannot be read as an Optuna storage: {reason}"]) from error
    finally:
        optuna.logging.set_verbosity(level)


def _opened(location: str) -> BaseStorage:
    """Open a storage so that nothing can be written to it."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    path = location.removeprefix("sqlite:///")
    if "://" in path:
        return RDBStorage(location, skip_table_creation=True)
    if not Path(path).is_file():
        raise InputError(location, ["there is no such file; give the path of an SQLite or journal file, or a URL"])
    with Path(path).open("rb") as stream:
        start = stream.read(16)
    if start == b"SQLite format 3\0":
        url = f"sqlite:///file:{quote(str(Path(path).absolute()))}?mode=ro&uri=true"
        return RDBStorage(url, skip_table_creation=True)
    if location.startswith("sqlite") or not start.lstrip().startswith(b"{"):
        raise InputError(location, ["the file is neither an SQLite database nor an Optuna journal"])
    return JournalStorage(JournalFileBackend(path))


def _checked(study: Study, target: Target, choice: StudyChoice, location: str) -> Study:
    """The study, if its objective can be the target: one objective, and of the target's name and direction."""
    names, n = study.metric_names, len(study.directions)
    where = f"study '{study.study_name}'"
    index = choice.objective
    if n > 1 and index is None:
        what = f" ({listed(names)})" if names else ""
        remedy = f"choose one with --objective, from 0 to {n - 1}"
        raise InputError(location, [f"{where} has {n} objectives{what}; {remedy}"])
    if index is not None and not 0 <= index < n:
        raise InputError(location, [f"{where} has {n} objectives, so --objective lies from 0 to {n - 1}, not {index}"])
    index = index or 0
    problems = []
    if names and names[index] != target.metric:
        problems.append(f"{where} names its objective '{names[index]}', but the target's metric is '{target.metric}'")
    direction = study.directions[index].name.lower()
    if direction in tuple(Direction) and direction != target.direction.value:
        sign = "<" if direction == "minimize" else ">"
        problems.append(f"{where} is to {direction} its objective, so the target reads '{target.metric} {sign} NUMBER'")
    if problems:
        raise InputError(location, problems)
    return study


def searched(distributions: Iterable[Mapping[str, BaseDistribution]], notes: Notes) -> dict[str, Axis]:
    """The dimensions that trials were drawn from; one that changed on the way is as wide as all its forms together.

    A choice among numbers is a box on their range, since numbers have an order.
    """
    forms: dict[str, list[tuple[str, list[Any]]]] = {}
    distributions = list(distributions)
    ours = our_names(name for of_trial in distributions for name in of_trial)
    for of_trial in distributions:
        for name, distribution in of_trial.items():
            form = _form(ours[name], distribution)
            if form not in forms.setdefault(name, []):
                forms[name].append(form)
    found: dict[str, Axis] = {}
    for name, several in forms.items():
        scales = {scale for scale, _ in several}
        values = [value for _, of_form in several for value in of_form]
        if len(scales) > 1:
            notes.add("Parameters whose distribution changed its kind are left out of the search space", 1, name)
        elif scales == {"choice"}:
            found[name] = choice_of(values)
        else:
            found[name] = interval(scales.pop(), min(values), max(values), name, notes)
    return found


def _form(name: str, distribution: BaseDistribution) -> tuple[str, list[Any]]:
    """(scale, ends or options)."""
    choices = getattr(distribution, "choices", None)
    if choices is None:
        low, high, log = distribution.low, distribution.high, distribution.log  # type: ignore[attr-defined]
        whole = isinstance(low, int) and not log
        return "log" if log else "integer" if whole else "linear", [low, high]
    if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
        return box_scale(name, choices), [min(choices), max(choices)]
    return "choice", one_type([_parameter_value(choice) for choice in choices])


def _parameter_value(value: Any) -> Any:
    """A parameter's value as a setting: None, which is a choice like others, becomes a word."""
    return "none" if value is None else value
