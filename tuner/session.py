"""Running an experiment: one Ray Tune run for all batch sizes, from an empty or half-filled run folder to a full one."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from analysis.run_folder import ENVIRONMENT, RAY, RunFolder
from search_spaces.experiment import Experiment
from search_spaces.problems import InputError
from tuner.environment import describe_environment
from tuner.ledger import Ledger
from tuner.protocol.proposal import Proposal
from tuner.protocol.protocol import PerStudyProtocol

# Tune reads these when it is imported. Its own progress display and loggers are off (ours are better and cheaper), and
# with the default of one pending trial a searcher would start actors one at a time.
_RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "600",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# How often a trial whose worker process died is tried again.
_MAX_FAILURES = 2


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


def start(experiment: Experiment, folder: RunFolder) -> None:
    """Make a new run folder.

    Args:
        experiment: resolved and checked.
        folder: where.

    Raises:
        InputError: something is there already; a run is never overwritten.
    """
    if folder.exists():
        raise InputError(
            str(folder),
            [f"the run folder exists and is never overwritten; go on with `bcrit resume {folder}` or use --out"],
        )
    folder.write_json(ENVIRONMENT, describe_environment(experiment.seed))
    folder.write_experiment(experiment)


def run(folder: RunFolder, *, address: str | None, workers: int | None, watch: Watch) -> SessionResult:
    """Run what is left of an experiment.

    Args:
        folder: the run folder, with its experiment.
        address: of a Ray cluster; None starts Ray on this machine.
        workers: trials at once; None = as many as the machine or cluster holds.
        watch: called after every change with the ledger and the proposals in flight.

    Returns:
        What was done.
    """
    begun = time.monotonic()
    experiment = folder.read_experiment()
    ledger = Ledger.open(folder, experiment)
    protocol = PerStudyProtocol(experiment)
    before = {record.trial_id for records in ledger.records.values() for record in records}
    if protocol.next_trial(ledger.records, ()) is None:
        return SessionResult(True, time.monotonic() - begun, 0, 0, 0.0)
    os.environ.update(_RAY_SETTINGS)
    with _ray(address, workers) as slots:
        slots = max(1, int(slots / experiment.resources.cpus))
        ready = time.monotonic()
        try:
            _tune(experiment, folder, protocol, ledger, slots, watch)
        finally:
            ledger.close()
        seconds = time.monotonic() - ready
    new = [r for records in ledger.records.values() for r in records if r.trial_id not in before]
    trained = sum(record.train_seconds for record in new)
    return SessionResult(
        complete=protocol.next_trial(ledger.records, ()) is None,
        seconds=time.monotonic() - begun,
        workers=slots,
        n_trials=len(new),
        training_share=trained / (seconds * slots),
    )


@contextmanager
def _ray(address: str | None, workers: int | None) -> Iterator[float]:
    """A Ray of our own on this machine, or a cluster's; yields its CPUs."""
    import ray

    # address="local" also works beside the leftovers of a crashed cluster, which num_cpus alone does not.
    ray.init(
        address=address or "local",
        num_cpus=workers if address is None else None,
        include_dashboard=False if address is None else None,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )
    try:
        slots = ray.cluster_resources().get("CPU", 1.0)  # type: ignore[no-untyped-call]
        yield min(slots, workers) if workers else slots
    finally:
        ray.shutdown()


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

    searcher = LedgerSearcher(protocol, ledger, notice=lambda running: watch(ledger, running))
    resources = {"cpu": experiment.resources.cpus, "gpu": experiment.resources.gpus}
    trainable = tune.with_parameters(TrialTrainable, experiment=experiment.to_dict(), folder=os.getcwd())
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
                failure_config=tune.FailureConfig(max_failures=_MAX_FAILURES),
            ),
        )
        with _gentle_interrupt(searcher):
            tuner.fit()


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
