"""Running an experiment: one Ray Tune run for all batch sizes, from an empty or half-filled folder to a full one."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcrit.analysis.records.run_folder import CODE, ENVIRONMENT, EXPERIMENT, LOCK, RAY, RunFolder, fingerprint
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.problems import InputError
from bcrit.tuner import code
from bcrit.tuner.cluster import ray_running, rooms
from bcrit.tuner.lease import held
from bcrit.tuner.ledger import Ledger
from bcrit.tuner.plan import resolved
from bcrit.tuner.protocol.protocol import PerStudyProtocol
from bcrit.tuner.workloads.registry import is_function

if TYPE_CHECKING:
    from bcrit.tuner.scheduler import WorkerScheduler

# What a run's numbers may depend on.
_PACKAGES = ("bcrit", "ray", "torch", "optuna", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn")


@dataclass(frozen=True)
class SessionResult:
    """What one session of an experiment did."""

    complete: bool  # whether nothing is left to run
    seconds: float = 0.0  # wall-clock time
    workers: int = 0  # trials that could run at once
    n_trials: int = 0  # trials finished in this session
    training_share: float = 0.0  # share of the workers' time that went into optimizer updates
    evaluation_share: float = 0.0  # share that went into evaluations


Watch = Callable[["WorkerScheduler"], None]


def run(
    folder: RunFolder, experiment: Experiment, *, new: bool, address: str | None, workers: int | None, watch: Watch
) -> SessionResult:
    """Run an experiment, resolved and checked, or what is left of it.

    `new` makes the folder; otherwise the run goes on with what is in it. `address` is of a Ray cluster, None starts Ray
    on this machine; `workers` None = as many as the machine or cluster holds. `watch` is called after every change with
    the scheduler, which knows ledger, proposals in flight and nodes.

    A new folder that is there already (a run is never overwritten), another process at work in it, code of the user's
    that cannot be packed, or a cluster that cannot be reached is an InputError. Nothing was written then.
    """
    begun = time.monotonic()
    # A training function is told its horizon when it begins.
    falls = not is_function(experiment.workload.name)
    protocol = PerStudyProtocol(experiment, horizon_falls=falls)
    if new and folder.occupied():
        remedy = f"go on with `bcrit resume {folder}` or choose another with --out"
        raise InputError(str(folder), [f"the run folder exists, and a run is never overwritten; {remedy}"])
    if new and not folder.creatable():
        raise InputError(str(folder), ["no folder can be made here; choose a place that you may write to"])
    if not new and protocol.next_trial(Ledger.open(folder, experiment).records, ()) is None:
        if folder.has_log():  # the session that ran the last trial was killed before all of it had arrived
            with held(folder) as lease:
                Ledger.open(folder, experiment, lease).close()
        return SessionResult(complete=True)
    own, uncopied = _code(folder, new, local=address is None) if code.is_own(experiment) else (None, [])
    brought = str(own.unpacked()) if own is not None and (address is not None or not new) else None
    made = [place for place in (Path(folder.root), *Path(folder.root).parents) if not place.exists()]
    with (
        held(folder) as lease,
        _untouched(folder, made),  # its lock file goes while it is held, so that nobody else can have taken it
        ray_running(address, workers, experiment.resources, brought) as wanted,
    ):
        if new and folder.has(EXPERIMENT):
            raise InputError(str(folder), ["another process has just begun a run here; choose another folder"])
        if new:
            experiment = resolved(experiment, wanted())
            protocol = PerStudyProtocol(experiment, horizon_falls=falls)
            try:
                folder.write_experiment(experiment)  # first: whatever happens from here on can be resumed
            except OSError as error:
                raise InputError(str(folder), [f"the run folder cannot be made: {error}"]) from error
            if own is not None:
                folder.write_bytes(CODE, own.archive)
        _note_environment(folder, experiment, own)
        from bcrit.tuner.scheduler import WorkerScheduler

        ready, ledger = time.monotonic(), Ledger.open(folder, experiment, lease)
        before = ledger.trial_ids
        scheduler = WorkerScheduler(protocol, ledger, partial(rooms, experiment.resources), watch)
        scheduler.notes += uncopied
        most = experiment.search.at_once * len(experiment.batch_sizes)
        if wanted() > most:
            scheduler.notes.append(
                f"there are {wanted()} workers, but at most {most} search trials run at once "
                f"(search.parallel_per_study: {experiment.search.at_once}); the others wait for re-runs"
            )
        here = "" if address is not None else brought or os.getcwd()
        try:
            _tune(experiment, folder, scheduler, wanted, here)
        finally:
            ledger.close()
        seconds, slots = time.monotonic() - ready, wanted()
    new_records = [r for records in ledger.records.values() for r in records if r.trial_id not in before]
    return SessionResult(
        complete=protocol.next_trial(ledger.records, ()) is None,
        seconds=time.monotonic() - begun,
        workers=slots,
        n_trials=len(new_records),
        training_share=sum(record.train_seconds for record in new_records) / (seconds * slots),
        evaluation_share=sum(record.evaluate_seconds for record in new_records) / (seconds * slots),
    )


def use_code(folder: RunFolder, new: Path | None) -> code.Code | None:
    """Let the user's module be found as the run has it, before the folder where the command was started.

    The code of the folder `new` takes the place of the run's copy. None for a run without any.
    """
    own = code.stored(folder) if new is None else code.pack(new)
    if own is not None:
        sys.path[:0] = [str(own.unpacked()), os.getcwd()]
    return own


def replace_code(folder: RunFolder, own: code.Code) -> None:
    """Put other code into the place of a run's copy."""
    with held(folder):
        folder.write_bytes(CODE, own.archive)


def _code(folder: RunFolder, new: bool, local: bool) -> tuple[code.Code | None, list[str]]:
    """The user's code, of the folder where the command was started or as the run has it since it began; and notes.

    A folder with more in it than code is only in the way where the code must travel: to the machines of a cluster.
    """
    if not new:
        return code.stored(folder), []
    try:
        return code.pack(Path.cwd()), []
    except InputError as error:
        if not local:
            raise
        return None, [f"no copy of your code is kept, so resume this run from the same folder: {error.problems[0]}"]


def _note_environment(folder: RunFolder, experiment: Experiment, own: code.Code | None) -> None:
    """Add what this session runs in to `environment.json`, which has one entry for every session of the run."""
    sessions = folder.read_environment()
    frozen = fingerprint(folder.read_text(EXPERIMENT))
    session = {**_described(experiment.seed), "experiment_sha256": frozen}
    session["code_sha256"] = None if own is None else own.sha256
    folder.write_json(ENVIRONMENT, {"sessions": [*sessions, session]})


def _described(seed: int) -> dict[str, Any]:
    """The facts for `environment.json` as plain data; entries that do not apply are null."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": seed,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "host": platform.node(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "devices": devices,
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the working directory, if it is in a git repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)  # noqa: S607
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


@contextmanager
def _untouched(folder: RunFolder, made: Sequence[Path]) -> Iterator[None]:
    """Leave neither a lock nor the folders that were made for it behind where nothing could be begun."""
    try:
        yield
    finally:
        if folder.is_local and not folder.has(EXPERIMENT):
            Path(folder.path(LOCK)).unlink(missing_ok=True)
            with suppress(OSError):  # somebody else has put something there
                for place in made:
                    place.rmdir()


def _tune(
    experiment: Experiment, folder: RunFolder, scheduler: WorkerScheduler, wanted: Callable[[], int], code: str
) -> None:
    """Let Tune run workers until the scheduler has nothing left."""
    from ray import tune

    from bcrit.tuner.scheduler import StopWhenAsked, Workers, place
    from bcrit.tuner.trainable import Worker

    trainable = tune.with_parameters(
        Worker, experiment=experiment.to_dict(), folder=code, function=is_function(experiment.workload.name)
    )
    with tempfile.TemporaryDirectory(prefix="bcrit-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, partial(place, experiment.resources)),
            tune_config=tune.TuneConfig(
                search_alg=Workers(scheduler, wanted),
                scheduler=scheduler,
                num_samples=10**9,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=time.strftime("%Y%m%d-%H%M%S"),
                storage_path=folder.path(RAY) if folder.is_local else scratch,
                verbose=0,
                stop=StopWhenAsked(scheduler),
                failure_config=tune.FailureConfig(max_failures=0),  # the scheduler tries again
                # Otherwise Tune saves one when a worker ends, on the worker's node and under the driver's path.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        with _gentle_interrupt(scheduler):
            tuner.fit()
    if scheduler.error is not None:
        raise scheduler.error


@contextmanager
def _gentle_interrupt(scheduler: WorkerScheduler) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run after the current reports; a second one ends it at once."""

    def stop(number: int, frame: Any) -> None:
        if scheduler.stopping:
            raise KeyboardInterrupt
        scheduler.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
