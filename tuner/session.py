"""Running an experiment: one Ray Tune run for all batch sizes, from an empty or half-filled folder to a full one."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from bcrit.analysis.records.repair import set_aside
from bcrit.analysis.records.run_folder import CODE, EXPERIMENT, LOCK, RAY, RunFolder, fingerprint
from bcrit.analysis.studies.state import failed_alike
from bcrit.search_spaces.experiment import Experiment
from bcrit.search_spaces.outcome import Outcome, Stage
from bcrit.search_spaces.problems import InputError
from bcrit.search_spaces.resources import Resources
from bcrit.search_spaces.tables import TRIALS
from bcrit.tuner import checkpoints, code
from bcrit.tuner.cluster import Hiring, OneRay, ray_running, rooms
from bcrit.tuner.lease import Lease, held
from bcrit.tuner.ledger import Ledger
from bcrit.tuner.protocol.proposal import Listed, Only, Proposal, Proposals, evaluated_rarely
from bcrit.tuner.protocol.protocol import protocol_of, resolved
from bcrit.tuner.pulse import UNBOUNDED, Bounds, Pulse, note_environment
from bcrit.tuner.tracking import Tracking
from bcrit.tuner.workloads.processes import Scratch
from bcrit.tuner.workloads.registry import is_function

if TYPE_CHECKING:
    from bcrit.tuner.scheduler import WorkerScheduler

_LOOK = 2  # trials of every study that are looked at for how often they were evaluated


@dataclass(frozen=True)
class SessionResult:
    """What one session of an experiment did."""

    complete: bool  # whether nothing is left to run
    seconds: float = 0.0  # wall-clock time
    workers: int = 0  # trials that could run at once
    n_trials: int = 0  # trials finished in this session
    # Shares of the workers' time, from the first trial to the last, that went into optimizer updates, evaluations and
    # checkpoints.
    training_share: float = 0.0
    evaluation_share: float = 0.0
    checkpoint_share: float = 0.0
    bound: str | None = None  # the bound that ended it, as a user would say it


Watch = Callable[["WorkerScheduler | None"], None]
"""Called as workers are about to start, with None, and then after every change with what knows the state."""


def run(
    folder: RunFolder,
    experiment: Experiment,
    *,
    new: bool,
    address: str | None,
    workers: int | None,
    watch: Watch,
    bounds: Bounds = UNBOUNDED,
    ray: OneRay | None = None,
) -> SessionResult:
    """Run an experiment, resolved and checked, or what is left of it, as far as the bounds allow.

    `new` makes the folder; otherwise the run goes on with what is in it. `address` is of a Ray cluster, None starts Ray
    on this machine; `workers` None = as many as the machine or cluster holds. `ray` is one that other runs use too.

    A new folder that is there already (a run is never overwritten), another process at work in it, code of the user's
    that cannot be packed, or a cluster that cannot be reached is an InputError. Nothing was written then.
    """
    begun = time.monotonic()
    # A training function is told its horizon when it begins.
    falls = not is_function(experiment.workload.name)
    protocol = protocol_of(experiment, horizon_falls=falls)
    if new and folder.occupied():
        remedy = f"go on with `bcrit resume {folder}` or choose another with --out"
        raise InputError(str(folder), [f"the run folder exists, and a run is never overwritten; {remedy}"])
    if new and not folder.creatable():
        raise InputError(str(folder), ["no folder can be made here; choose a place that you may write to"])
    if not new:
        there = Ledger.open(folder, experiment)
        there.check_whole()
        if protocol.next_trial(there.records, ()) is None:
            _deliver(folder, experiment)
            with Tracking(experiment, folder, print):  # the session before may have been killed as it fed the last
                return SessionResult(complete=True)
    own, uncopied = code.to_go_along(folder, new, local=address is None) if code.is_own(experiment) else (None, [])
    brought = str(own.unpacked()) if own is not None and (address is not None or not new) else None
    absent = [place for place in (Path(folder.root), *Path(folder.root).parents) if not place.exists()]
    with (
        held(folder) as lease,
        _untouched(folder, absent),  # its lock file goes while it is held, so that nobody else can have taken it
        (ray or ray_running)(address, workers, experiment.kinds, brought, partial(watch, None)) as hiring,
    ):
        if new and folder.has(EXPERIMENT):
            raise InputError(str(folder), ["another process has just begun a run here; choose another folder"])
        if new:
            experiment = resolved(experiment, _share(hiring, experiment))
            protocol = protocol_of(experiment, horizon_falls=falls)
            try:
                folder.write_experiment(experiment)  # first: whatever happens from here on can be resumed
            except OSError as error:
                raise InputError(str(folder), [f"the run folder cannot be made: {error}"]) from error
            if own is not None:
                folder.write_bytes(CODE, own.archive)
        folder.clear_half_written()
        note_environment(folder, experiment, own)
        ledger = Ledger.open(folder, experiment, lease)
        before, notes = ledger.trial_ids, list(uncopied)
        most = experiment.search.at_once * len(experiment.batch_sizes)
        if (share := _share(hiring, experiment)) > most:
            notes.append(
                f"there are {share} workers, but at most {most} search trials run at once "
                f"(search.parallel_per_study: {experiment.search.at_once}); the others wait for re-runs"
            )
        here = "" if address is not None else brought or os.getcwd()
        again = f"bcrit resume {folder} --retry-failed{' --code .' if own is not None else ''}"
        looking = _looking(watch, experiment, before, again)
        bound = _run(protocol, experiment, ledger, hiring, looking, here, notes, bounds)
        slots = max(hiring(kind)() for kind in experiment.kinds)
        devices = max(hiring(kind)() * kind.devices for kind in experiment.kinds)
    made = [r for records in ledger.records.values() for r in records if r.trial_id not in before]
    span = max((r.ended_at for r in made), default=math.inf) - min((r.started_at for r in made), default=0)
    busy = devices * max(span, 1e-9)
    used = [(record, experiment.resources.at(record.batch_size).devices) for record in made]
    return SessionResult(
        complete=protocol.next_trial(ledger.records, ()) is None,
        seconds=time.monotonic() - begun,
        workers=slots,
        n_trials=len(made),
        training_share=sum(n * record.train_seconds for record, n in used) / busy,
        evaluation_share=sum(n * record.evaluate_seconds for record, n in used) / busy,
        checkpoint_share=sum(n * (record.checkpoint_seconds or 0.0) for record, n in used) / busy,
        bound=bound,
    )


def _share(hiring: Hiring, experiment: Experiment) -> int:
    """Workers of all batch sizes together; of those that take turns, as if the others had as many each meanwhile."""
    sizes = experiment.batch_sizes
    kinds = [experiment.resources.at(size) for size in sizes]
    return max(-(-hiring(kind)() * len(sizes) // kinds.count(kind)) for kind in experiment.kinds)


def _looking(watch: Watch, experiment: Experiment, before: Collection[str], again: str) -> Watch:
    """The same with a look at the first trials.

    The run ends where all that it does is to fail in one way: `again` goes on once that is mended. Where a training
    function is evaluated too rarely for a number, one of the first trials of a study says so.
    """
    looked = not is_function(experiment.workload.name)

    def watched(scheduler: WorkerScheduler | None) -> None:
        nonlocal looked
        if scheduler is not None and scheduler.trained and not looked:
            first = [record for own in scheduler.ledger.records.values() for record in own[:_LOOK]]
            said = next(filter(None, map(evaluated_rarely, first)), None)
            scheduler.notes += [] if said is None else [said]
            looked = said is not None or len(first) == _LOOK * len(experiment.batch_sizes)
        watch(scheduler)
        if scheduler is None or scheduler.trained or scheduler.stopping:
            return
        records = [r for own in scheduler.ledger.records.values() for r in own if r.trial_id not in before]
        ended = ((r.batch_size, r.outcome, r.steps, r.message) for r in records)
        why = failed_alike(ended, len(experiment.batch_sizes))
        if why is not None:
            rule = f"a trial must train, but the first {len(records)} failed alike before their first update"
            stopped = [f"{rule}, so the run was stopped: {why}", f"mend that, and go on with `{again}`"]
            scheduler.error, scheduler.stopping = InputError(str(scheduler.ledger.folder), stopped), True

    return watched


class Stopped(Exception):
    """The user stopped a session before all its trials had finished."""


Train = Callable[[Sequence[Proposal]], None]
"""Have these trials in the run folder, their weights too where these are wanted; those that are there are not repeated.

Raises `Stopped` where the user ended that.
"""


@contextmanager
def training_beside(
    folder: RunFolder, experiment: Experiment, stages: Collection[Stage], address: str | None, workers: int | None
) -> Iterator[Callable[[Sequence[Proposal], Watch], None]]:
    """Train what a command wants beside the study of a run, on Ray, in stages of its own.

    As in `run`: on this machine, or on the cluster at `address`; a trial that has finished counts whatever happens
    afterwards. Ray starts with the first trial that is missing.
    """
    with ExitStack() as stack:
        running: list[tuple[Lease, Hiring]] = []
        tried: set[str] = set()  # what failed before is tried again, once a command
        own = code.stored(folder) if code.is_own(experiment) else None
        brought = None if own is None else str(own.unpacked())

        def train(proposals: Sequence[Proposal], watch: Watch) -> None:
            wanted = Listed(proposals)
            set_lost_aside(folder, experiment, proposals, running[0][0] if running else None, tried)
            tried.update(proposal.trial_id for proposal in proposals)
            if wanted.next_trial(Ledger.open(folder, experiment, stages=stages).records, ()) is None:
                _deliver(folder, experiment)
                return
            if not running:
                lease = stack.enter_context(held(folder))
                ray = ray_running(address, workers, experiment.kinds, brought, partial(watch, None))
                running.append((lease, stack.enter_context(ray)))
                note_environment(folder, experiment, own)
            else:
                watch(None)
            lease, hiring = running[0]
            ledger = Ledger.open(folder, experiment, lease, stages)
            _run(wanted, experiment, ledger, hiring, watch, "" if address is not None else brought or os.getcwd())
            if wanted.next_trial(ledger.records, ()) is not None:
                raise Stopped

        yield train


def _deliver(folder: RunFolder, experiment: Experiment) -> None:
    """Bring what is left in the log: the session that ran the last trial was killed before all of it had arrived."""
    if folder.has_log() or checkpoints.left(folder):
        with held(folder) as lease:
            ledger = Ledger.open(folder, experiment, lease)
            ledger.close()
            checkpoints.remove(folder, checkpoints.left(folder) & ledger.trial_ids)


def set_lost_aside(
    folder: RunFolder,
    experiment: Experiment,
    proposals: Sequence[Proposal],
    lease: Lease | None = None,
    tried: Collection[str] = (),
) -> None:
    """Let trials be run again that failed, or whose weights are wanted, but are lost or damaged.

    `lease` is this process's right to write to the run, where it has it already; those that failed in spite of being
    `tried` stay so.
    """
    named = {proposal.trial_id: proposal for proposal in proposals}
    rows = [row for row in folder.read(TRIALS).select(["trial_id", "outcome"]).to_pylist() if row["trial_id"] in named]
    broken = [row["trial_id"] for row in rows if Outcome(row["outcome"]).broken]
    keeping = [row["trial_id"] for row in rows if row["trial_id"] not in broken and named[row["trial_id"]].keep]
    failed = [name for name in broken if name not in tried]
    if lost := [*failed, *(name for name in keeping if checkpoints.kept(folder, name) is None)]:
        with held(folder) if lease is None else nullcontext(lease) as ours:
            Ledger.open(folder, experiment, ours).close()
            set_aside(folder, lost)


def _run(
    protocol: Proposals,
    experiment: Experiment,
    ledger: Ledger,
    hiring: Hiring,
    watch: Watch,
    here: str,
    notes: Sequence[str] = (),
    bounds: Bounds = UNBOUNDED,
) -> str | None:
    """Run what a protocol proposes until it has nothing left, is stopped, or reaches a bound, which is returned.

    The ledger is closed then. `here` is the folder of the user's code on every machine; "" = where Ray brought it.
    Batch sizes that have other resources take turns: workers of one kind run all that they can, then those of another,
    so that no kind waits for room that another holds.
    """
    from bcrit.tuner.scheduler import WorkerScheduler

    def employed(kind: Resources) -> WorkerScheduler:
        own = protocol if len(experiment.kinds) == 1 else Only(protocol, experiment.resources, kind)
        return WorkerScheduler(own, experiment.target, ledger, partial(rooms, kind, own=here != ""), watch)

    def due() -> Resources | None:
        proposal = protocol.next_trial(ledger.records, ())
        return None if proposal is None else experiment.resources.at(proposal.batch_size)

    kind = due() or experiment.kinds[0]
    scheduler = employed(kind)
    scheduler.notes += notes
    there = checkpoints.left(ledger.folder)
    checkpoints.remove(ledger.folder, there & ledger.trial_ids)  # a session before this one was cut off
    scheduler.unfinished = there - ledger.trial_ids
    tracking = Tracking(experiment, ledger.folder, lambda note: scheduler.notes.append(note))
    # The algebra of a search is small: in as many threads as cores it kept workers waiting (demo: 65 s in place of 38).
    one_thread = threadpool_limits(1)
    with one_thread, tracking as scheduler.follow, Pulse(scheduler, kind, bounds) as pulse:
        try:
            while True:
                given = experiment.model_copy(update={"resources": kind})
                _tune(given, ledger.folder, scheduler, hiring(kind), here, pulse.due)
                after = due()
                if scheduler.interrupted or pulse.reached or after is None or after == kind:
                    break
                kind, before = after, scheduler
                scheduler = employed(kind)
                scheduler.goes_on_from(before)
                pulse.turn_to(scheduler, kind)
        finally:
            ledger.close()
    watch(scheduler)  # what a tracker had to say at last
    return pulse.reached


def replace_code(folder: RunFolder, own: code.Code) -> None:
    """Put other code into the place of a run's copy."""
    with held(folder):
        folder.write_bytes(CODE, own.archive)
        checkpoints.remove(folder, checkpoints.left(folder))  # of trials that the old code has half trained


@contextmanager
def _untouched(folder: RunFolder, made: Sequence[Path]) -> Iterator[None]:
    """Leave neither a lock nor folders that were made for it behind where nothing could be begun."""
    try:
        yield
    finally:
        if folder.is_local and not folder.has(EXPERIMENT):
            Path(folder.path(LOCK)).unlink(missing_ok=True)
            with suppress(OSError):  # somebody else has put something there
                for place in made:
                    place.rmdir()


def _tune(
    experiment: Experiment,
    folder: RunFolder,
    scheduler: WorkerScheduler,
    wanted: Callable[[], int],
    code: str,
    due: Callable[[], bool],
) -> None:
    """Let Tune run workers until the scheduler has nothing left, or a bound is `due`."""
    from ray import tune

    from bcrit.tuner.scheduler import StopWhenAsked, Workers, place
    from bcrit.tuner.trainable import Worker

    trainable = tune.with_parameters(
        Worker,
        experiment=experiment.to_dict(),
        folder=code,
        function=is_function(experiment.workload.name),
        run=(folder.root if folder.is_local else folder.location, fingerprint(folder.read_text(EXPERIMENT))),
    )
    with closing(Scratch()) as scratch:
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
                storage_path=folder.path(RAY) if folder.is_local else str(scratch.path),
                verbose=0,
                stop=StopWhenAsked(scheduler, due),
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
        scheduler.stopping = scheduler.interrupted = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
