"""Running an experiment: one Ray Tune run for all batch sizes, from an empty or half-filled folder to a full one."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from analysis.run_folder import ENVIRONMENT, EXPERIMENT, LOCK, RAY, RunFolder, fingerprint
from search_spaces.experiment import Experiment
from search_spaces.problems import InputError
from tuner.environment import describe_environment
from tuner.ledger import Ledger
from tuner.protocol.proposal import Proposal
from tuner.protocol.protocol import PerStudyProtocol

# Tune reads these when it is imported: its own display, loggers, interrupt handler and frequent snapshots are off,
# because ours do their work.
_RAY_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a path of data in an experiment is seen from where the command was started
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# How long to wait for a cluster's address to answer.
_PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class SessionResult:
    """What one session of an experiment did.

    Attributes:
        complete: whether nothing is left to run.
        seconds: wall-clock time.
        workers: trials that could run at once.
        n_trials: trials finished in this session.
        training_share: share of the workers' time that went into optimizer updates.
    """

    complete: bool
    seconds: float
    workers: int
    n_trials: int
    training_share: float


Watch = Callable[[Ledger, Mapping[str, Proposal]], None]


def run(
    folder: RunFolder, experiment: Experiment, *, new: bool, address: str | None, workers: int | None, watch: Watch
) -> SessionResult:
    """Run an experiment, or what is left of it.

    Args:
        folder: the run folder.
        experiment: resolved and checked.
        new: make the folder; otherwise go on with what is in it.
        address: of a Ray cluster; None starts Ray on this machine.
        workers: trials at once; None = as many as the machine or cluster holds.
        watch: called after every change with the ledger and the proposals in flight.

    Returns:
        What was done.

    Raises:
        InputError: a new folder is there already (a run is never overwritten), another process is at work in it, or
            the cluster cannot be reached. Nothing was written then.
    """
    begun = time.monotonic()
    protocol = PerStudyProtocol(experiment)
    if new and folder.occupied():
        remedy = f"go on with `bcrit resume {folder}` or choose another with --out"
        raise InputError(str(folder), [f"the run folder exists, and a run is never overwritten; {remedy}"])
    if new and not folder.creatable():
        raise InputError(str(folder), ["no folder can be made here; choose a place that you may write to"])
    if not new and protocol.next_trial(Ledger.open(folder, experiment).records, ()) is None:
        return SessionResult(True, time.monotonic() - begun, 0, 0, 0.0)
    with _ray(address, workers, experiment) as slots, _alone(folder):
        if new and folder.has(EXPERIMENT):
            raise InputError(str(folder), ["another process has just begun a run here; choose another folder"])
        if new:
            try:
                folder.write_experiment(experiment)  # first: whatever happens from here on can be resumed
            except OSError as error:
                raise InputError(str(folder), [f"the run folder cannot be made: {error}"]) from error
        _note_environment(folder, experiment)
        ready, ledger = time.monotonic(), Ledger.open(folder, experiment)
        before = ledger.trial_ids
        try:
            _tune(experiment, folder, protocol, ledger, slots, watch)
        finally:
            ledger.close()
        seconds = time.monotonic() - ready
    new_records = [r for records in ledger.records.values() for r in records if r.trial_id not in before]
    trained = sum(record.train_seconds for record in new_records)
    return SessionResult(
        complete=protocol.next_trial(ledger.records, ()) is None,
        seconds=time.monotonic() - begun,
        workers=slots,
        n_trials=len(new_records),
        training_share=trained / (seconds * slots),
    )


def _note_environment(folder: RunFolder, experiment: Experiment) -> None:
    """Add what this session runs in to `environment.json`, which has one entry for every session of the run."""
    sessions = folder.read_environment()
    frozen = fingerprint(folder.read_text(EXPERIMENT))
    session = {**describe_environment(experiment.seed), "experiment_sha256": frozen}
    folder.write_json(ENVIRONMENT, {"sessions": [*sessions, session]})


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """Hold the run folder for this process; the system lets go of it when the process ends, however it ends.

    Only a local folder can be held.

    Raises:
        InputError: another process holds it.
    """
    if not folder.is_local:
        yield
        return
    folder.filesystem.create_dir(folder.root, recursive=True)
    with open(folder.path(LOCK), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            problem = "another process is running this experiment; wait for it, or stop it first"
            raise InputError(str(folder), [problem]) from error
        yield


@contextmanager
def _ray(address: str | None, workers: int | None, experiment: Experiment) -> Iterator[int]:
    """A Ray of our own on this machine, or a cluster's; yields how many trials it holds at once.

    Raises:
        InputError: it cannot be reached, or has too little for one trial.
    """
    os.environ.update(_RAY_SETTINGS)
    import ray

    for name in ("ray", "ray.tune"):  # what matters to the user is an outcome of a trial, or an exception
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _probe(address)
    try:
        # address="local" also works beside the leftovers of a crashed cluster, which num_cpus alone does not.
        ray.init(
            address=address or "local",
            num_cpus=_cpus(workers, experiment) if address is None else None,
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError("Ray", [f"cannot be started or reached at '{address or 'this machine'}': {error}"]) from error
    try:
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        need = experiment.resources
        slots = int(there.get("CPU", 0) / need.cpus)
        if need.gpus:
            slots = min(slots, int(there.get("GPU", 0) / need.gpus))
        if slots < 1 and address is None:
            have = f"{there.get('CPU', 0):g} cpus and {there.get('GPU', 0):g} gpus"
            raise InputError(
                "resources", [f"a trial needs {need.cpus:g} cpus and {need.gpus:g} gpus, but there are {have}"]
            )
        # On a cluster that grows with its load, what is there now says little: then the user's word counts.
        yield workers if address is not None and workers is not None else max(1, min(slots, workers or slots))
    finally:
        ray.shutdown()


def _probe(address: str | None) -> None:
    """Find out quickly whether anything answers at HOST:PORT, for which Ray itself would wait many minutes.

    Raises:
        InputError: nothing does.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError("--address", [f"no Ray cluster answers at '{address}': {error}; is it up?"]) from error


def _cpus(workers: int | None, experiment: Experiment) -> int | None:
    """The CPUs that Ray is told to have, so that it runs this many trials; None = as many as the machine has."""
    return None if workers is None else math.ceil(workers * experiment.resources.cpus)


def _tune(
    experiment: Experiment,
    folder: RunFolder,
    protocol: PerStudyProtocol,
    ledger: Ledger,
    slots: int,
    watch: Watch,
) -> None:
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    from ray import tune

    from tuner.searcher import LedgerSearcher, StopWhenAsked
    from tuner.trainable import TrialTrainable
    from tuner.workloads.registry import is_function

    searcher = LedgerSearcher(protocol, ledger, notice=lambda running: watch(ledger, running))
    resources = {"cpu": experiment.resources.cpus, "gpu": experiment.resources.gpus}
    function = is_function(experiment.workload.name)
    trainable = tune.with_parameters(
        TrialTrainable, experiment=experiment.to_dict(), folder=os.getcwd(), function=function
    )
    with tempfile.TemporaryDirectory(prefix="bcrit-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=10**9,
                max_concurrent_trials=2 * slots,  # some wait in line, so that a freed actor never does
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=time.strftime("%Y%m%d-%H%M%S"),
                storage_path=folder.path(RAY) if folder.is_local else scratch,
                verbose=0,
                stop=StopWhenAsked(searcher),
                failure_config=tune.FailureConfig(max_failures=0),  # the searcher tries again
            ),
        )
        with _gentle_interrupt(searcher):
            tuner.fit()
    if searcher.error is not None:
        raise searcher.error


@contextmanager
def _gentle_interrupt(searcher: Any) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the run after the current reports; a second one ends it at once."""

    def stop(number: int, frame: Any) -> None:
        if searcher.stopping:
            raise KeyboardInterrupt
        searcher.stopping = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
