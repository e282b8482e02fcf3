"""The trackers that a run can feed: one small class each, and the list of them.

A trial is a run of the tracker, the batch size its group, and the hyperparameters its parameters.
`bcrit.tuner.tracking` feeds them.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from bcrit.search_spaces.dimensions import Box, Choice
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome
from bcrit.search_spaces.space import hyperparameter

_BEFORE_ALL = -1  # the step before the first, 0


@dataclass(frozen=True)
class Followed:
    """A trial as a tracker takes it."""

    name: str
    batch_size: int
    facts: Mapping[str, Any]  # stage, seed, number and the like
    point: Mapping[str, Any]  # hyperparameters


class Tracker(Protocol):
    """One trial at a time is begun, measured and ended; several are open at once."""

    def known(self) -> Collection[str]:
        """The trials that it has from beginning to end."""

    def begin(self, trial: Followed) -> int:
        """Take a trial, or go on with it: the last step that it has of it, -1 where it has none."""

    def measured(self, trial: Followed, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Take measurements: steps, in order, and metrics."""

    def ended(self, trial: Followed, outcome: Outcome, steps_to_target: int | None) -> None:
        """Close a trial."""

    def close(self) -> None:
        """Let go of trials that are open; another session goes on with them."""


class _Optuna:
    """One study a batch size in a journal file, to be looked at by optuna-dashboard; its objective is steps-to-target.

    Values along a trial are those of the target's metric, so that `bcrit import optuna` reads it.
    """

    def __init__(self, experiment: Experiment, place: Path) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(place / "journal.log")))
        self._experiment, self._there = experiment, dict[str, Any]()
        self._studies = {}
        for size in experiment.batch_sizes:
            name = f"{experiment.name}, batch size {size}"
            study = optuna.create_study(storage=self._storage, study_name=name, load_if_exists=True)
            study.set_user_attr("batch_size", size)
            self._studies[size] = study._study_id
            self._there |= {of.user_attrs["trial_id"]: of for of in study.get_trials(deepcopy=False)}
        self._ids = {name: of._trial_id for name, of in self._there.items() if not of.state.is_finished()}

    def known(self) -> Collection[str]:
        return self._there.keys() - self._ids.keys()

    def begin(self, trial: Followed) -> int:
        before = self._there.get(trial.name)  # a session before this one was killed
        return _BEFORE_ALL if before is None else max(before.intermediate_values, default=_BEFORE_ALL)

    def measured(self, trial: Followed, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        metric = self._experiment.target.metric
        values = {step: metrics[metric] for step, metrics in rows if metric in metrics}
        if trial.name not in self._ids:  # with its first values: every entry of the journal is a few ms
            self._create(trial, values)
            return
        for step, value in values.items():
            self._storage.set_trial_intermediate_value(self._ids[trial.name], step, value)

    def ended(self, trial: Followed, outcome: Outcome, steps_to_target: int | None) -> None:
        from optuna.trial import TrialState

        if trial.name not in self._ids:
            self._create(trial, {})
        number = self._ids.pop(trial.name)
        self._storage.set_trial_user_attr(number, "outcome", outcome.value)
        if steps_to_target is not None:
            self._storage.set_trial_state_values(number, TrialState.COMPLETE, [float(steps_to_target)])
        else:
            state = TrialState.PRUNED if outcome.feasible else TrialState.FAIL
            self._storage.set_trial_state_values(number, state)

    def _create(self, trial: Followed, values: Mapping[int, float]) -> None:
        from optuna.trial import TrialState, create_trial

        axes = {hyperparameter(name): axis for name, axis in self._experiment.space.axes.items()}
        point = {name: value for name, value in trial.point.items() if isinstance(axes.get(name), Box | Choice)}
        given = create_trial(
            state=TrialState.RUNNING,
            params=point,
            distributions={name: _distribution(axes[name], value) for name, value in point.items()},
            user_attrs={"trial_id": trial.name, "batch_size": trial.batch_size, **trial.facts},
            intermediate_values=dict(values),
        )
        self._ids[trial.name] = self._storage.create_new_trial(self._studies[trial.batch_size], given)

    def close(self) -> None:
        """Nothing is held open."""


def _distribution(axis: Any, value: Any) -> Any:
    """A dimension as Optuna has it; a value that a widened box allowed counts as inside."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(axis, Choice):
        return CategoricalDistribution(list(axis.options))
    low, high = min(float(axis.low), value), max(float(axis.high), value)
    return FloatDistribution(low, high, log=axis.scale == "log" and low > 0)


class _Marked:
    """A place with a mark for every trial that was taken whole, for trackers whose files do not say that."""

    def __init__(self, place: Path) -> None:
        self._place = place / "ended"
        self._place.mkdir(parents=True, exist_ok=True)

    def all(self) -> Collection[str]:
        return [path.name for path in self._place.iterdir()]

    def add(self, name: str) -> None:
        (self._place / name).touch()


class _TensorBoard:
    """Event files, a folder a trial, below one a batch size."""

    def __init__(self, experiment: Experiment, place: Path) -> None:
        self._place, self._marks, self._writers = place / "events", _Marked(place), dict[str, Any]()

    def known(self) -> Collection[str]:
        return self._marks.all()

    def begin(self, trial: Followed) -> int:
        from tensorboardX import SummaryWriter  # comes with Ray Tune

        path = self._place / f"batch_size_{trial.batch_size}" / trial.name
        shutil.rmtree(path, ignore_errors=True)  # what a killed session left is written again
        self._writers[trial.name] = SummaryWriter(str(path), flush_secs=5)
        return _BEFORE_ALL

    def measured(self, trial: Followed, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, metrics in rows:
            for name, value in metrics.items():
                self._writers[trial.name].add_scalar(name, value, step)
        self._writers[trial.name].flush()

    def ended(self, trial: Followed, outcome: Outcome, steps_to_target: int | None) -> None:
        with self._writers.pop(trial.name) as writer:
            found = {"steps_to_target": float("nan") if steps_to_target is None else steps_to_target}
            settings = {**trial.point, "batch_size": trial.batch_size, **trial.facts, "outcome": outcome.value}
            writer.add_hparams(settings, found, name="hparams")
        self._marks.add(trial.name)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class _MLflow:
    """Runs of one MLflow experiment, with the tag `batch_size`; at MLFLOW_TRACKING_URI, else in a file of SQLite."""

    def __init__(self, experiment: Experiment, place: Path) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{place / 'mlflow.db'}")
        there = self._client.get_experiment_by_name(experiment.name)
        self._of = there.experiment_id if there else self._client.create_experiment(experiment.name, str(place / "art"))
        self._runs, self._ended, page = dict[str, str](), set[str](), None
        while True:
            runs = self._client.search_runs([self._of], f"tags.tracking_folder = '{place}'", page_token=page)
            for run in runs:
                self._runs[run.info.run_name] = run.info.run_id
                self._ended |= set() if run.info.status == "RUNNING" else {run.info.run_name}
            if (page := runs.token) is None:
                break
        self._place = str(place)

    def known(self) -> Collection[str]:
        return self._ended

    def begin(self, trial: Followed) -> int:
        if run_id := self._runs.get(trial.name):
            seen = (self._client.get_metric_history(run_id, name) for name in self._client.get_run(run_id).data.metrics)
            return max((metric.step for metrics in seen for metric in metrics), default=_BEFORE_ALL)
        from mlflow.entities import Param

        tags = {"tracking_folder": self._place, "batch_size": str(trial.batch_size)}
        run = self._client.create_run(self._of, run_name=trial.name, tags={**tags, **_texts(trial.facts)})
        params = [Param(name, text) for name, text in _texts({**trial.point, "batch_size": trial.batch_size}).items()]
        self._client.log_batch(run.info.run_id, params=params)
        self._runs[trial.name] = run.info.run_id
        return _BEFORE_ALL

    def measured(self, trial: Followed, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        from mlflow.entities import Metric

        now, most = int(1000 * time.time()), 1000  # of one call
        found = [Metric(name, value, now, step) for step, metrics in rows for name, value in metrics.items()]
        for first in range(0, len(found), most):
            self._client.log_batch(self._runs[trial.name], metrics=found[first : first + most])

    def ended(self, trial: Followed, outcome: Outcome, steps_to_target: int | None) -> None:
        run_id = self._runs[trial.name]
        self._client.set_tag(run_id, "outcome", outcome.value)
        if steps_to_target is not None:
            self._client.log_metric(run_id, "steps_to_target", steps_to_target)
        self._client.set_terminated(run_id, "FAILED" if outcome.broken else "FINISHED")

    def close(self) -> None:
        """Nothing is held open."""


class _Wandb:
    """Runs with the batch size as group; without a network, for `wandb sync`, unless WANDB_MODE says otherwise."""

    def __init__(self, experiment: Experiment, place: Path) -> None:
        self._place, self._project, self._marks, self._runs = place, experiment.name, _Marked(place), dict[str, Any]()

    def known(self) -> Collection[str]:
        return self._marks.all()

    def begin(self, trial: Followed) -> int:
        import wandb

        # A name of a trial stands in every run folder, an id of W&B's in a project only once.
        own = f"{hashlib.sha256(str(self._place).encode()).hexdigest()[:8]}-{trial.name}"
        for left in self._place.glob(f"wandb/*-{own}"):  # of a killed session; it is written again
            shutil.rmtree(left)
        self._runs[trial.name] = wandb.init(
            project=self._project,
            dir=str(self._place),
            id=own,
            name=trial.name,
            group=f"batch size {trial.batch_size}",
            job_type=trial.facts["stage"],
            config={**trial.point, **trial.facts, "batch_size": trial.batch_size},
            mode=None if "WANDB_MODE" in os.environ else "offline",
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
        )
        return _BEFORE_ALL

    def measured(self, trial: Followed, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        for step, metrics in rows:
            self._runs[trial.name].log(dict(metrics), step=step)

    def ended(self, trial: Followed, outcome: Outcome, steps_to_target: int | None) -> None:
        run = self._runs.pop(trial.name)
        run.summary.update({"outcome": outcome.value, "steps_to_target": steps_to_target})
        run.finish(exit_code=int(outcome.broken))
        self._marks.add(trial.name)

    def close(self) -> None:
        for run in self._runs.values():
            run.finish(exit_code=1)


class _Trackio:
    """Runs of a local trackio project, in TRACKIO_DIR where that is set."""

    def __init__(self, experiment: Experiment, place: Path) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(place))  # it is read once, when the package is loaded
        from trackio.sqlite_storage import (
            SQLiteStorage,  # its client ends one run where another begins, and here many are open
        )

        self._storage, self._project, self._marks = SQLiteStorage, experiment.name, _Marked(place)

    def known(self) -> Collection[str]:
        return self._marks.all()

    def begin(self, trial: Followed) -> int:
        last = self._storage.get_max_step_for_run(self._project, trial.name)
        return _BEFORE_ALL if last is None else int(last)

    def measured(self, trial: Followed, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        now = datetime.now(UTC).isoformat()
        config = {**trial.point, **trial.facts, "batch_size": trial.batch_size, "_Group": f"batch_{trial.batch_size}"}
        steps, metrics = [step for step, _ in rows], [dict(of) for _, of in rows]
        self._storage.bulk_log(self._project, trial.name, metrics, steps, [now] * len(rows), config)

    def ended(self, trial: Followed, outcome: Outcome, steps_to_target: int | None) -> None:
        self._marks.add(trial.name)

    def close(self) -> None:
        """Nothing is held open."""


TRACKERS: Final[Mapping[str, tuple[str, Callable[[Experiment, Path], Tracker]]]] = {
    "optuna": ("optuna", _Optuna),
    "tensorboard": ("tensorboardX", _TensorBoard),
    "mlflow": ("mlflow", _MLflow),
    "wandb": ("wandb", _Wandb),
    "trackio": ("trackio", _Trackio),
}
"""By the name in an experiment's `tracking`: the package that it needs, and what feeds it."""


def _texts(facts: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in facts.items()}


def missing(experiment: Experiment) -> list[str]:
    """What an experiment's trackers lack on this machine, in sentences."""
    lacking = [(name, TRACKERS[name][0]) for name in experiment.tracking or () if find_spec(TRACKERS[name][0]) is None]
    return [
        f"'tracking' names {name}, but the package '{package}' is not installed; pip install {package}, or leave it out"
        for name, package in lacking
    ]
