"""Studies of an Optuna storage as an imported run, read through Optuna's own interface and never written to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from bcrit.analysis.exchange import Reading
from bcrit.analysis.exchange import run as foreign
from bcrit.analysis.exchange.files import STEP, metrics, table_of_rows
from bcrit.analysis.exchange.logged import SECONDS, Counters, LoggedRun, flat, import_logged
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.problems import InputError, without_passwords
from bcrit.search_spaces.target import Direction, Target

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_OUTCOMES = {"PRUNED": Outcome.PRUNED, "FAIL": Outcome.FAILED}
_RUNNING = "still running when it was read"
_MESSAGES = {"RUNNING": _RUNNING, "FAIL": "Optuna's FAIL: an error, or an objective that was NaN"}


def import_optuna(
    source: Annotated[str, "sqlite:///study.db, another URL, or an SQLite or journal file.", "STORAGE"],
    how: Reading,
    study: Annotated[list[str] | None, "Name of a study; repeat it to read several as one run."] = None,
    steps_attr: Annotated[
        str | None, "User attribute with the step of a trial's final value, if trials do not report."
    ] = None,
    objective: Annotated[int | None, "Which value of a study with several objectives, from 0."] = None,
) -> foreign.ImportedRun:
    """Import studies of an Optuna storage; what trials reported are the measurements.

    Batch size and seed may be parameters, or user attributes of a trial or its study.
    """
    studies = _chosen(source, study or ())
    location = without_passwords(source)  # from here on it is only told
    for each in studies:
        _check(each, how.target, objective, location)
    runs = []
    with _quiet(location):
        trials = [(of, trial) for of in studies for trial in of.get_trials(deepcopy=False)]
        for of, trial in trials:
            name = f"{of.study_name}/{trial.number}" if len(studies) > 1 else str(trial.number)
            at = None if steps_attr is None or trial.values is None else trial.user_attrs.get(steps_attr)
            final = {at: trial.values[objective or 0]} if isinstance(at, int | float) else {}
            runs.append(_logged(name, of, trial, how.target.metric, final))
    if runs and all(run.log.empty for run in runs):
        attributes = foreign.listed(sorted({name for _, trial in trials for name in trial.user_attrs}))
        remedy = f"name the user attribute with the step of its final value by --steps-attr; there are {attributes}"
        raise InputError(location, [f"no trial reported a value with trial.report; {remedy}"])
    notes = foreign.Notes()
    if how.steps_per_iteration is None and how.examples_per_iteration is None:
        notes.add("If the steps of the reports count epochs, import again with --examples-per-iteration")
    running = [run.name for run in runs if run.message == _RUNNING]
    notes.among("Trials were still running when they were read", running)
    space = searched([{str(name): of for name, of in trial.distributions.items()} for _, trial in trials], notes)
    name = studies[0].study_name if len(studies) == 1 else location
    return import_logged(runs, how, Counters(STEP), "optuna", location, notes, space, name)


def _logged(name: str, study: Study, trial: FrozenTrial, metric: str, final: Mapping[Any, float]) -> LoggedRun:
    """A trial with what it reported, and its final value by step where that is known and later."""
    reports = sorted(trial.intermediate_values.items())
    reports += [(step, value) for step, value in final.items() if not reports or step > reports[-1][0]]
    rows: list[dict[str, Any]] = [{STEP: step, metric: value} for step, value in reports]
    if rows and trial.duration is not None:
        rows[-1][SECONDS] = trial.duration.total_seconds()
    state, begin, end = trial.state.name, trial.datetime_start, trial.datetime_complete
    return LoggedRun(
        name,
        {str(parameter): _parameter_value(value) for parameter, value in trial.params.items()},
        *metrics(table_of_rows(rows)),
        outcome=_OUTCOMES.get(state),
        message=_MESSAGES.get(state) if rows or state == "FAIL" else None,
        started_at=0.0 if begin is None else begin.timestamp(),
        ended_at=0.0 if end is None else end.timestamp(),
        attributes=flat({**study.user_attrs, **trial.user_attrs}),
    )


def _chosen(location: str, names: Sequence[str]) -> list[Study]:
    import optuna

    with _quiet(without_passwords(location)):
        storage = _opened(location)
        location = without_passwords(location)
        there = [study.study_name for study in storage.get_all_studies()]
        if not there:
            raise InputError(location, ["the storage has no study"])
        if unknown := [name for name in names if name not in there]:
            raise InputError(location, [f"there is no study '{unknown[0]}'; the studies are {foreign.listed(there)}"])
        if not names and len(there) > 1:
            remedy = "name one with --study, or several of one workload by repeating it"
            raise InputError(location, [f"the storage has {len(there)} studies: {foreign.listed(there)}; {remedy}"])
        return [optuna.load_study(study_name=name, storage=storage) for name in names or there]


@contextmanager
def _quiet(location: str) -> Iterator[None]:
    """Optuna's and its database's errors as one message, and nothing printed."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    # What is raised for a damaged or foreign storage. An InputError is a ValueError too, but ours.
    faults = (optuna.exceptions.OptunaError, SQLAlchemyError, ImportError, OSError, AttributeError, AssertionError)
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        yield
    except InputError:
        raise
    except (*faults, RuntimeError, ValueError, LookupError, TypeError) as error:
        reason = without_passwords(str(error.__cause__ or error)).strip().partition("\n")[0] or type(error).__name__
        raise InputError(location, [f"it cannot be read as an Optuna storage: {reason}"]) from error
    finally:
        optuna.logging.set_verbosity(level)


def _opened(location: str) -> BaseStorage:
    """Open a storage so that nothing can be written to it."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy import make_url

    path = location.removeprefix("sqlite:///")
    if "://" in path:
        try:
            make_url(location)
        except ValueError:  # it quotes what it takes for the port, which may be of the password
            remedy = "in a password write @ as %40 and : as %3A"
            raise InputError(location, [f"the port of this address is no number; {remedy}"]) from None
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


def _check(study: Study, target: Target, index: int | None, location: str) -> None:
    """Refuse a study whose objective cannot be the target: one objective, of the target's name and direction."""
    names, n = study.metric_names, len(study.directions)
    where = f"study '{study.study_name}'"
    if n > 1 and index is None:
        what = f" ({foreign.listed(names)})" if names else ""
        remedy = f"choose one with --objective, from 0 to {n - 1}"
        raise InputError(location, [f"{where} has {n} objectives{what}; {remedy}"])
    if index is not None and not 0 <= index < n:
        raise InputError(location, [f"{where} has {n} objectives, so --objective lies from 0 to {n - 1}, not {index}"])
    problems = []
    if names and names[index or 0] != target.metric:
        named = f"{where} names its objective '{names[index or 0]}'"
        problems.append(f"{named}, but the target's metric is '{target.metric}'")
    direction = study.directions[index or 0].name.lower()
    if direction in tuple(Direction) and direction != target.direction.value:
        sign = "<" if direction == "minimize" else ">"
        problems.append(f"{where} is to {direction} its objective, so the target reads '{target.metric} {sign} NUMBER'")
    if problems:
        raise InputError(location, problems)


def searched(distributions: Iterable[Mapping[str, BaseDistribution]], notes: foreign.Notes) -> dict[str, foreign.Axis]:
    """The dimensions that trials were drawn from; one that changed on the way is as wide as all its forms together.

    A choice among numbers is a box on their range, since numbers have an order.
    """
    distributions = list(distributions)
    ours = foreign.our_names(name for of_trial in distributions for name in of_trial)
    forms: dict[str, dict[str, list[Any]]] = {}
    for of_trial in distributions:
        for name, distribution in of_trial.items():
            scale, values = _form(ours[name], distribution)
            forms.setdefault(name, {}).setdefault(scale, []).extend(values)
    found: dict[str, foreign.Axis] = {}
    for name, by_scale in forms.items():
        (scale, values), *others = by_scale.items()
        if others:
            notes.add("Parameters whose distribution changed its kind are left out of the search space", 1, name)
        else:
            box = scale != "choice"
            found[name] = (
                foreign.interval(scale, min(values), max(values), name, notes) if box else foreign.choice_of(values)
            )
    return found


def _form(name: str, distribution: BaseDistribution) -> tuple[str, list[Any]]:
    """(scale, ends or options)."""
    choices = getattr(distribution, "choices", None)
    if choices is None:
        low, high, log = distribution.low, distribution.high, distribution.log  # type: ignore[attr-defined]
        whole = isinstance(low, int) and not log
        return "log" if log else "integer" if whole else "linear", [low, high]
    if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
        return foreign.box_scale(name, choices), [min(choices), max(choices)]
    return "choice", foreign.one_type([_parameter_value(choice) for choice in choices])


def _parameter_value(value: Any) -> Any:
    """A parameter's value as a setting: None, which is a choice like others, becomes a word."""
    return "none" if value is None else value
